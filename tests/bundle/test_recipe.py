"""A wrong recipe names the file and the key; a model must be the file its manifest names."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from controlplane.bundle.recipe import choose_features, read_recipe
from controlplane.bundle.weights import find_models, place_models
from controlplane.kit.errors import BadInput, Refused


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


def test_a_model_is_placed_below_its_digest(tmp_path):
    digest = write_model(tmp_path / "in", b"weights")

    place_models(tmp_path / "out", find_models((tmp_path / "in",), ("tiny",)))

    assert (tmp_path / "out" / digest / "tiny.gguf").read_bytes() == b"weights"
    assert json.loads((tmp_path / "out" / digest / "tiny.gguf.json").read_text())["licence"] == "Apache-2.0"


def test_weights_that_are_not_those_of_the_manifest_are_refused(tmp_path):
    write_model(tmp_path, b"weights")
    (tmp_path / "tiny.gguf").write_bytes(b"wEights")

    with pytest.raises(Refused, match="not the file its manifest names"):
        find_models((tmp_path,), ("tiny",))


def test_a_model_that_nobody_has_names_what_to_give(tmp_path):
    with pytest.raises(BadInput, match="no folder holds the model tiny") as refusal:
        find_models((tmp_path,), ("tiny",))

    assert "--models" in refusal.value.remedy


def write_model(folder: Path, weights: bytes) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.gguf").write_bytes(weights)
    manifest = {
        "name": "tiny", "file": "tiny.gguf", "sha256": sha256(weights).hexdigest(), "size_bytes": len(weights),
        "format": "gguf", "licence": "Apache-2.0", "context_tokens": 1, "weights_bytes": 1, "kv_bytes_per_token": 1,
        "vocab_tokens": 1,
    }  # fmt: skip
    (folder / "tiny.json").write_text(json.dumps(manifest))
    return str(manifest["sha256"])
