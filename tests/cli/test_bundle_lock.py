"""The commands of the lock, on the lock of this repository and on files."""

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlplane.cli import bundle as bundle_cli
from controlplane.cli import progress as under_test
from controlplane.cli.progress import ProgressLine
from controlplane.kit.errors import RedoubtError

RECIPE = Path("images/bundle.toml")


def test_the_lock_of_this_repository_is_listed_by_type_and_feature():
    done = CliRunner().invoke(bundle_cli.app, ["list", "--type", "wheel", "--feature", "gateway", "--json"])

    listed = json.loads(done.stdout)
    assert listed["artefacts"] == len(listed["rows"]) > 5
    assert listed["size_bytes"] == sum(row["size_bytes"] for row in listed["rows"])
    assert {row["type"] for row in listed["rows"]} == {"wheel"}
    assert all({"base", "gateway"} & set(row["needed_by"]) for row in listed["rows"])


def test_a_recipe_that_the_lock_does_not_cover_is_refused_with_what_is_missing(tmp_path):
    recipe = tmp_path / "bundle.toml"
    recipe.write_text(RECIPE.read_text() + '\n[features.extra]\ndebs = ["cowsay"]\n')

    error = refused("list", "--features", str(recipe), "--lock", str(RECIPE.with_suffix(".lock")))

    assert error.exit_code == 3
    assert error.reasons == ("no deb cowsay for the feature extra",)
    assert error.remedy == "lock anew: redoubt bundle lock"


def test_a_build_without_a_fetch_names_the_command(tmp_path):
    error = refused("build", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"))

    assert error.exit_code == 1
    assert "redoubt bundle fetch" in error.remedy
    assert not (tmp_path / "out").exists()


def test_a_lock_that_is_not_there_is_a_usage_error(tmp_path):
    error = refused("list", "--lock", str(tmp_path / "nowhere"))

    assert error.exit_code == 2
    assert "redoubt bundle lock" in error.remedy


def test_progress_says_how_far_how_fast_and_how_long(monkeypatch):
    monkeypatch.setattr(under_test, "ELSEWHERE_S", 0.0)
    out = io.StringIO()
    line = ProgressLine(out)

    line.start("fetch 2 artefacts", 4_000_000)
    line.advance(1_000_000)
    line.advance(3_000_000)
    line.end()

    first, *_, last = out.getvalue().splitlines()
    assert "fetch 2 artefacts: 1.0 of 4.0 MB" in first
    assert "MB/s" in first
    assert last.endswith("0:00 left")


def refused(*words: str) -> RedoubtError:
    with pytest.raises(RedoubtError) as refusal:
        CliRunner().invoke(bundle_cli.app, list(words), catch_exceptions=False)
    return refusal.value
