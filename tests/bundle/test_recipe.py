"""A wrong recipe names the file and the key."""

from pathlib import Path

import pytest

from controlplane.bundle.recipe import choose_features, read_recipe
from controlplane.bundle.weights import find_models
from controlplane.kit.errors import BadInput


def test_the_shipped_recipe_is_read():
    recipe = read_recipe(Path("images/bundle.toml"))

    assert {"slurmctld", "postgresql-17-pgvector", "chrony"} <= set(recipe.debs)


@pytest.mark.parametrize(
    ("text", "word"),
    [("distribution = 1", "distribution"), ("[features.base]\ndebz = []", "debz"), ("[features", "not TOML")],
)
def test_a_wrong_recipe_names_what_is_wrong(tmp_path, text, word):
    path = tmp_path / "bundle.toml"
    path.write_text(text)

    with pytest.raises(BadInput) as refusal:
        read_recipe(path)

    assert word in " ".join((refusal.value.detail, *refusal.value.reasons))


def test_a_bundle_can_be_made_of_the_base_and_some_features():
    recipe = choose_features(read_recipe(Path("images/bundle.toml")), ("time", "depot"))

    assert {"chrony", "nginx-light"} <= set(recipe.debs)
    assert "slurmctld" not in recipe.debs
    assert recipe.models == ()


def test_an_unknown_feature_is_refused_with_the_nearest_name():
    with pytest.raises(BadInput) as refusal:
        choose_features(read_recipe(Path("images/bundle.toml")), ("tiem",))

    assert refusal.value.remedy == "did you mean time?"


def test_a_model_that_nobody_has_names_what_to_give(tmp_path):
    with pytest.raises(BadInput, match="no folder holds the model tiny") as refusal:
        find_models((tmp_path,), ("tiny",))

    assert "--models" in refusal.value.remedy
