"""redoubt site and redoubt bundle: what a person sees, and the exit code by kind."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlplane.cli import bundle as bundle_cli
from controlplane.cli import site as site_cli
from controlplane.kit.errors import RedoubtError
from tests.support.bundles import SmallBundle

PRACTICE = Path("inventory/practice/site.yml")


@pytest.fixture
def made(tmp_path):
    """A site spec without models, and a small bundle whose root the CLI is told."""
    spec = tmp_path / "site.yml"
    spec.write_text(PRACTICE.read_text().replace("models: [practice-tiny]\n", "").replace("practice: true", ""))
    bundle = SmallBundle(tmp_path)
    trust = ["--root", str(bundle.root_file), "--cache", str(tmp_path / "cache")]
    return spec, bundle, ["--bundle", str(bundle.folder), *trust]


def test_check_says_what_the_site_holds():
    done = run(site_cli.app, "check", str(PRACTICE), "--json")

    assert json.loads(done.output) == {"site": "practice", "nodes": 4, "gpus": 8}


def test_a_wrong_spec_is_a_usage_error_with_its_line(tmp_path):
    spec = tmp_path / "site.yml"
    spec.write_text(PRACTICE.read_text().replace("zones:", "zonez:"))

    error = refused(site_cli.app, "check", str(spec))

    assert error.exit_code == 2
    assert "zonez" in error.detail
    assert error.remedy == "did you mean `zones`?"


def test_a_spec_that_is_not_there_names_one_to_start_from(tmp_path):
    error = refused(site_cli.app, "check", str(tmp_path / "site.yml"))

    assert error.exit_code == 2
    assert "inventory/example/site.yml" in error.remedy


def test_the_schema_knows_every_key_of_the_example():
    schema = json.loads(run(site_cli.app, "schema").output)

    assert set(schema["properties"]) == {
        "name", "practice", "network", "zones", "services", "models", "nodes", "leaf_minutes", "project_slots",
        "scheduler_state",
    }  # fmt: skip
    assert schema["additionalProperties"] is False


def test_rendering_twice_changes_nothing(made):
    spec, _, words = made

    first = json.loads(run(site_cli.app, "render", str(spec), *words, "--json").output)
    second = json.loads(run(site_cli.app, "render", str(spec), *words, "--json").output)

    assert first["changed"] == first["files"] == 6
    assert second["changed"] == 0


def test_a_node_that_left_the_spec_leaves_the_inventory(made):
    spec, _, words = made
    run(site_cli.app, "render", str(spec), *words)
    text = spec.read_text()
    spec.write_text(text[: text.index("  - name: gpu2")] + text[text.index("  - name: store1") :])

    run(site_cli.app, "render", str(spec), *words)

    names = {path.stem for path in (spec.parent / "rendered/host_vars").iterdir()}
    assert names == {"ctl1", "gpu1", "store1"}


def test_apply_refuses_a_bundle_with_a_flipped_byte_before_it_touches_a_node(made):
    spec, bundle, words = made
    run(site_cli.app, "render", str(spec), *words)
    content = bytearray(bundle.archive.read_bytes())
    content[content.index(b"deb deb") + 100] ^= 1
    bundle.archive.write_bytes(content)

    error = refused(site_cli.app, "apply", str(spec), *words)

    assert error.exit_code == 3
    assert "apt/pool/tool_1.deb is altered" in error.detail


def test_apply_refuses_an_inventory_that_was_never_rendered(made):
    spec, _, words = made

    error = refused(site_cli.app, "apply", str(spec), *words)

    assert error.exit_code == 3
    assert "redoubt site render" in error.remedy


def test_apply_refuses_an_inventory_that_was_rendered_with_another_bundle(made, tmp_path):
    spec, bundle, words = made
    run(site_cli.app, "render", str(spec), *words)
    (bundle.folder / "apt/pool/tool_1.deb").unlink()
    bundle.seal()

    error = refused(site_cli.app, "apply", str(spec), *words)

    assert error.exit_code == 3
    assert "another bundle" in error.detail


@pytest.mark.parametrize("verb", ["render", "apply"])
def test_a_bundle_that_lacks_a_feature_or_a_model_of_the_site_is_refused_by_name(made, tmp_path, verb):
    spec, _, words = made
    run(site_cli.app, "render", str(spec), *words)
    spec.write_text(spec.read_text() + "\nmodels: [rook-8b]\n")
    short = SmallBundle(tmp_path / "short", features=("base", "time", "depot", "slurm", "inference", "gpu-driver"))
    trust = ["--root", str(short.root_file), "--cache", str(tmp_path / "other")]

    error = refused(site_cli.app, verb, str(spec), "--bundle", str(short.folder), *trust)

    assert error.exit_code == 3
    for name in ("feature control-plane (ctl1)", "feature postgres (store1)", "feature gateway", "model rook-8b"):
        assert name in error.detail


@pytest.mark.parametrize("change", ["spec", "rendered"])
def test_the_first_play_refuses_an_inventory_that_is_stale_or_edited(made, change):
    spec, _, words = made
    run(site_cli.app, "render", str(spec), *words)
    path = spec if change == "spec" else spec.parent / "rendered/host_vars/gpu1.yml"
    path.write_text(path.read_text() + "# a line more\n")

    error = refused(site_cli.app, "apply", str(spec), *words)

    assert error.exit_code == 3
    assert "redoubt site render" in error.remedy


def test_a_practice_site_without_its_simulated_library_says_what_to_name(made):
    spec, _, words = made
    spec.write_text(spec.read_text() + "\npractice: true\n")

    error = refused(site_cli.app, "apply", str(spec), *words)

    assert error.exit_code == 2
    assert "--practice-assets" in error.remedy


def test_apply_refuses_a_plan_that_was_altered_and_one_that_nobody_made(made, tmp_path):
    spec, _, words = made
    run(site_cli.app, "render", str(spec), *words)
    altered = tmp_path / "plan.json"
    altered.write_text(
        '{"site": "practice", "made_at": "2026-01-01T00:00:00Z", "choice": ["all"], "inputs": {}, "facts": {},'
        ' "states": {}, "changes": [], "restarts": [], "drains": [], "minutes": 0, "minutes_from": "", "digest": "ab"}'
    )

    found = [refused(site_cli.app, "apply", str(spec), *words, "--plan", plan) for plan in (str(altered), "abcdef")]

    assert [error.exit_code for error in found] == [3, 2]
    assert all("redoubt site plan" in error.remedy for error in found)


def test_a_node_that_the_site_does_not_have_cannot_be_the_limit(made):
    spec, _, words = made
    run(site_cli.app, "render", str(spec), *words)

    error = refused(site_cli.app, "apply", str(spec), *words, "--limit", "gpu9")

    assert error.exit_code == 2
    assert "gpu1" in error.remedy


def test_bundle_verify_and_inspect_agree_on_the_digest(made):
    _, bundle, words = made
    trust = words[2:]

    found = [
        json.loads(run(bundle_cli.app, verb, str(bundle.archive), *trust, "--json").stdout)["digest"]
        for verb in ("verify", "inspect")
    ]

    assert found == [bundle.digest, bundle.digest]


def run(app, *words):
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def refused(app, *words) -> RedoubtError:
    done = CliRunner().invoke(app, list(words))
    assert isinstance(done.exception, RedoubtError), done.output
    return done.exception
