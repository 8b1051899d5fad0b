"""Slurm's accounts, classes of work and reservations are as wanted; what another hand changes is told and stays."""

import secrets
from collections.abc import Iterator
from typing import Any  # JSON of our own commands has no narrower type

import pytest
from practice.people import ADMINISTRATOR
from practice.site import PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system


@pytest.fixture
def settled(site: PracticeSite) -> Iterator[PracticeSite]:
    """Begin and end with a scheduler that is as wanted."""
    wait_for(lambda: _is_right(site), "the scheduler to be as wanted")
    yield site
    wait_for(lambda: _is_right(site), "the scheduler to be as wanted again")


def test_what_another_hand_changes_is_told_with_who_did_it_stays_and_is_taken_over_when_asked(
    settled: PracticeSite,
) -> None:
    before = _qos(settled, "training")
    settled.lab.ssh("ctl1", "sacctmgr --immediate modify qos training set priority=7")

    wait_for(lambda: bool(_drift(settled)), "the drift to be told")
    [drift] = _drift(settled)
    dry = settled.redoubt_json("scheduler", "apply", "--take-over", "--dry-run")
    stays = _qos(settled, "training")
    settled.people.step_up(ADMINISTRATOR)
    settled.redoubt_json("scheduler", "apply", "--take-over")

    assert (drift["kind"], drift["name"]) == ("qos", "training")
    assert drift["hands"][0].startswith("root at ")
    assert dry["changes"] == [f"change qos training: priority 7 -> {before}"]
    assert stays == "7"
    assert _qos(settled, "training") == before


def test_what_others_made_is_listed_and_never_touched(settled: PracticeSite) -> None:
    name = f"theirs{secrets.token_hex(3)}"
    settled.lab.ssh("ctl1", f"sacctmgr --immediate add account {name} Organization=physics")
    try:
        wait_for(lambda: _states(settled).get(("account", name)) == "foreign", "the foreign account to be listed")
        settled.redoubt_json("scheduler", "apply")
        assert name in settled.lab.ssh("ctl1", "sacctmgr --noheader --parsable2 list account format=account").stdout
        assert not _drift(settled)
    finally:
        settled.lab.ssh("ctl1", f"sacctmgr --immediate delete account {name}")


def test_the_scheduler_is_read_while_slurmrestd_hangs_and_the_endpoint_answers(settled: PracticeSite) -> None:
    settled.lab.ssh("ctl1", "systemctl kill --signal=SIGSTOP slurmrestd")
    try:
        before = _read_at(settled)
        wait_for(lambda: _read_at(settled) > before, "a reading without slurmrestd")
        assert settled.redoubt_json("scheduler", "show")["error"] == ""
        assert settled.answers()
    finally:
        settled.lab.ssh("ctl1", "systemctl kill --signal=SIGCONT slurmrestd")


def test_a_restart_of_the_accounting_loses_nothing_and_is_no_drift(settled: PracticeSite) -> None:
    settled.lab.ssh("ctl1", "systemctl restart mariadb slurmdbd")
    before = _read_at(settled)

    wait_for(lambda: _read_at(settled) > before and _is_right(settled), "a reading after the restart")

    assert not _drift(settled)
    assert settled.answers()


def _is_right(site: PracticeSite) -> bool:
    view = site.redoubt_json("scheduler", "show")
    states = {thing["state"] for thing in view["things"]}
    return bool(view["read_at"]) and not view["failures"] and states <= {"right", "foreign"} and "right" in states


def _states(site: PracticeSite) -> dict[tuple[str, str], str]:
    things = site.redoubt_json("scheduler", "show")["things"]
    return {(thing["kind"], thing["name"]): thing["state"] for thing in things}


def _drift(site: PracticeSite) -> list[Any]:
    found: list[Any] = site.redoubt_json("scheduler", "drift")["drift"]
    return found


def _read_at(site: PracticeSite) -> str:
    return str(site.redoubt_json("scheduler", "show")["read_at"] or "")


def _qos(site: PracticeSite, name: str) -> str:
    command = f"sacctmgr --noheader --parsable2 list qos {name} format=priority"
    return site.lab.ssh("ctl1", command).stdout.strip()
