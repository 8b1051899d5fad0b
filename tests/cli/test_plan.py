"""A plan's digest moves with everything that decides the outcome; restarts, drains and minutes say why."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cli.plan_document import Plan, digest_of, estimate, make_plan, moved, stages_to_visit
from controlplane.cli.plan_screen import show_plan
from controlplane.cli.run_record import RunRecord
from controlplane.cli.stages import read_stages
from controlplane.sitespec.text import parse_site

SITE = parse_site(Path("inventory/practice/site.yml").read_text())
AT = datetime(2026, 1, 1, tzinfo=UTC)
INPUTS = {"site.yml": "a", "bundle": "b", "playbooks": "c"}
FACTS: dict[str, Any] = {
    "system": "debian 13", "kernel": "6.12", "boot": "one", "packages": "p", "jobs": ["7"], "shared": {"/key": "k"},
    "watched": {}, "stages": {"slurm": {"inputs": "i", "age_s": 5, "moved": []}},
}  # fmt: skip
SETTINGS = "/etc/default/slurmd"
RECORD: dict[str, Any] = {
    "hosts": {}, "stages": [], "failures": [], "seconds": 1.0, "facts": {"gpu1": FACTS},
    "changes": [{"host": "gpu1", "stage": "Scheduler", "task": "slurm : compute | Write"}],
    "restarts": [{"host": "gpu1", "stage": "Scheduler", "unit": "slurmd.service"}],
    "states": {"gpu1": {SETTINGS: "before"}},
}  # fmt: skip
MOVES = [
    ("kernel", "6.13", "gpu1: kernel was 6.12, is 6.13"),
    ("system", "debian 14", "gpu1: operating system was debian 13, is debian 14"),
    ("boot", "two", "gpu1: boot changed"),
    ("packages", "q", "gpu1: installed packages changed"),
    ("shared", {}, "gpu1: a key that nodes share changed"),
    ("watched", {SETTINGS: "after"}, f"gpu1: {SETTINGS} changed"),
    ("stages", {}, "gpu1: stage slurm: it was run, or begun, since"),
    (
        "stages",
        {"slurm": {"inputs": "i", "age_s": 5, "moved": ["x is not active"]}},
        "gpu1: stage slurm: x is not active",
    ),
]


def plan(record=RECORD, inputs=INPUTS, **facts: Any) -> Plan:
    asked = {**record, "facts": {"gpu1": {**FACTS, **facts}}}
    return make_plan(SITE, RunRecord.model_validate(asked), inputs, ("all",), {}, AT)


@pytest.mark.parametrize(("fact", "value"), [(fact, value) for fact, value, _ in MOVES if fact != "watched"])
def test_the_digest_moves_with_every_fact_of_a_node(fact, value):
    assert plan(**{fact: value}).digest != plan().digest


@given(st.dictionaries(st.sampled_from(sorted(INPUTS)), st.text()))
def test_the_digest_moves_with_the_inputs_and_only_when_they_do(other):
    assert (plan(inputs=other).digest == plan().digest) == (other == INPUTS)


@given(st.sampled_from(["changes", "states"]), st.integers(0, 3))
def test_the_digest_moves_with_what_would_change_and_what_stands_there(part, number):
    changes = [{"host": "gpu1", "stage": "Scheduler", "task": f"another {number}"}]
    record = {**RECORD, part: {"changes": changes, "states": {"gpu1": {SETTINGS: f"other {number}"}}}[part]}

    assert plan(record).digest != plan().digest


@given(st.lists(st.text()), st.integers(0))
def test_running_jobs_and_the_age_of_stamps_do_not_move_it(jobs, age_s):
    stages = {"slurm": {"inputs": "i", "age_s": age_s, "moved": []}}

    assert plan(jobs=jobs, stages=stages).digest == plan().digest


def test_the_digest_is_that_of_the_content_whenever_it_was_made():
    one = plan()

    assert digest_of(one.model_copy(update={"made_at": datetime.now(UTC)})) == one.digest
    assert digest_of(one.model_copy(update={"changes": ()})) != one.digest
    assert Plan.model_validate_json(one.model_dump_json()) == one


def test_nothing_moved_when_the_nodes_are_as_they_were():
    assert moved(plan(), INPUTS, {"gpu1": {**FACTS, "jobs": [], "watched": {SETTINGS: "before"}}}) == ()


@pytest.mark.parametrize(("fact", "value", "said"), MOVES)
def test_what_moved_on_a_node_is_named(fact, value, said):
    now = {**FACTS, "watched": {SETTINGS: "before"}, fact: value}

    assert moved(plan(), INPUTS, {"gpu1": now}) == (said,)


def test_inputs_and_nodes_that_moved_are_named():
    now = {"gpu2": FACTS}

    assert moved(plan(), {**INPUTS, "bundle": "x"}, now) == (
        "bundle changed",
        "gpu1 does not answer",
        "gpu2 was not there",
    )


def test_gpus_drain_where_their_jobs_would_feel_it_and_the_plan_says_why():
    (drain,) = plan().drains

    assert (drain.node, drain.gpus, drain.jobs) == ("gpu1", 4, ("7",))
    assert SETTINGS in drain.why[0]


def test_a_driver_change_drains_a_node_in_service_and_not_one_that_is_bare():
    record = {**RECORD, "restarts": [], "drains": [{"host": "gpu1", "why": "nvidia-driver is installed"}]}

    assert plan(record, jobs=[]).drains[0].why == ("nvidia-driver is installed",)
    assert plan(record, jobs=[], stages={}).drains == ()


def test_a_restart_without_other_settings_drains_nothing():
    assert plan({**RECORD, "states": {}}).drains == ()


def test_a_unit_that_is_restarted_and_reloaded_is_restarted_once():
    units = ["ssh.service (reload)", "chrony.service (reload)", "chrony.service", "chrony.service"]
    record = {**RECORD, "restarts": [{"host": "gpu1", "stage": "Time", "unit": unit} for unit in units]}

    assert [one.unit for one in plan(record).restarts] == ["chrony.service", "ssh.service (reload)"]


def test_minutes_say_whether_they_were_measured_here():
    assert estimate(["Time"], {"Time": 110.0}) == (2.0, "earlier runs of this site")
    assert "shipped table" in estimate(["Time"], {})[1]
    assert "and the shipped table" in estimate(["Time", "Depot"], {"Time": 1.0})[1]


def test_apply_visits_the_stages_in_which_the_plan_saw_work():
    assert stages_to_visit(plan(), read_stages()) == ("slurm",)


def test_the_screen_fits_on_it_and_ends_with_what_to_type(capsys):
    show_plan(plan(), "redoubt site apply --plan abc")

    said = capsys.readouterr().out
    assert "slurmd" in said
    assert "drain     gpu1: 4 GPUs, jobs 7 run there" in said
    assert "change    gpu1: Scheduler: Write\n" in said
    assert said.endswith("next      redoubt site apply --plan abc\n")


def test_what_the_scheduler_hands_out_drains_every_node_in_service_but_the_list_of_nodes_does_not():
    def drained(path):
        found = plan({**RECORD, "restarts": [], "states": {"ctl1": {path: "before"}}}).drains
        return [drain.node for drain in found]

    assert drained("/etc/slurm/gres.conf") == ["gpu1"]
    assert drained("/etc/slurm/slurm.conf") == []
