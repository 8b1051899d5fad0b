"""What a stage is made of: the digest moves with everything that decides the stage, and with nothing else."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cli.stage_choice import Choice
from controlplane.cli.stages import Stage, input_digest, read_stages, source_digest, tree_digest
from controlplane.kit.errors import BadInput

PLAYBOOKS = Path("playbooks").resolve()
STAGES = {stage.name: stage for stage in read_stages()}
words = st.dictionaries(st.sampled_from(["node_time_role", "node_time_source", "depot_port", "slurm_role"]), st.text())


@pytest.fixture
def tree(tmp_path):
    """A copy of the playbooks, to change."""
    shutil.copytree(PLAYBOOKS, tmp_path / "playbooks")
    return tmp_path / "playbooks"


def digest(stage: Stage, playbooks: Path = PLAYBOOKS, **inputs: str) -> str:
    source_digest.cache_clear()
    tree_digest.cache_clear()
    return input_digest(stage, inputs, {}, "b" * 64, playbooks)


def test_every_import_of_the_site_but_the_preflight_is_a_stage():
    imported = [
        play["ansible.builtin.import_playbook"] for play in yaml.safe_load(Path("playbooks/site.yml").read_text())
    ]

    missing = {Path(name).stem for name in imported} - set(STAGES) - {"preflight", "prove"}

    assert missing == set()


def test_every_stage_ends_with_its_own_stamp_and_knows_its_own_files():
    for name in STAGES:
        play = yaml.safe_load(Path(f"playbooks/{name}.yml").read_text())[0]

        assert play["post_tasks"][-1]["vars"] == {"stage_name": name}
        assert play["module_defaults"]["files_written"] == {"stage": name}


def test_what_a_stage_comes_after_stands_before_it():
    order = list(STAGES)

    wrong = [(name, other) for name in order for other in STAGES[name].after if other not in order[: order.index(name)]]

    assert wrong == []


@given(words, words)
def test_the_digest_moves_with_the_inputs_of_its_role_and_with_no_others(one, other):
    def own(found):
        return {name: value for name, value in found.items() if name.startswith("node_time_")}

    same = digest_of_time(one) == digest_of_time(other)

    assert same == (own(one) == own(other))


def digest_of_time(inputs):
    return input_digest(STAGES["node_time"], inputs, {}, "b" * 64)


@pytest.mark.parametrize(
    ("path", "moves"),
    [
        ("roles/node_time/templates/chrony.conf.j2", {"node_time"}),
        ("roles/node_time/meta/stamp.yml", {"node_time"}),
        ("node_time.yml", {"node_time"}),
        ("library/slurm_accounting.py", {"slurm"}),
        ("library/bundle_unpacked.py", {"depot"}),
        ("module_utils/stage_stamps.py", set(STAGES)),
        ("tasks/stamp.yml", set(STAGES)),
        ("roles/slurm/README", {"slurm"}),
        ("unrelated", set()),
    ],
)
def test_the_digest_moves_with_the_sources_of_its_stage_alone(tree, path, moves):
    before = {name: digest(stage, tree) for name, stage in STAGES.items()}
    with (tree / path).open("a") as file:
        file.write("\n# a line more\n")

    after = {name: digest(stage, tree) for name, stage in STAGES.items()}

    assert {name for name in STAGES if before[name] != after[name]} == moves


def test_the_digest_moves_with_the_bundle_where_the_stage_reads_it():
    def moved(name):
        return len({input_digest(STAGES[name], {}, {}, bundle) for bundle in ("b" * 64, "c" * 64)}) == 2

    assert moved("node_base")
    assert not moved("boundary")


def test_the_digest_moves_with_what_the_practice_library_holds(tmp_path):
    library = tmp_path / "libnvidia-ml.so.1"
    found = []
    for content in (b"one", b"two"):
        library.write_bytes(content)
        tree_digest.cache_clear()
        found.append(input_digest(STAGES["practice"], {}, {"practice_assets": str(tmp_path)}, ""))

    assert found[0] != found[1]


def test_a_stage_that_is_none_is_a_usage_error_with_the_names():
    for choice in (Choice(only=("tme",)), Choice(first="tme")):
        with pytest.raises(BadInput) as error:
            choice.stages()
        assert "node_time" in error.value.remedy


def test_from_a_stage_on_takes_all_that_follow_and_believes_their_stamps():
    choice = Choice(first="models")

    assert [stage.name for stage in choice.stages()][:2] == ["models", "control_plane"]
    assert choice.playbooks()[:2] == ("preflight", "models")
    assert choice.forced() == ()
    assert Choice(only=("models",)).forced() == ("models",)
    assert set(Choice(every=True).forced()) == set(STAGES)
    with pytest.raises(BadInput):
        Choice(only=("models",), first="models")
