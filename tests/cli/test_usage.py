"""redoubt usage --by run and its like against a real API on loopback."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.gateway.records import Opened, Outcome
from tests.domains.metering.test_spools import lines, ship
from tests.support.control_plane import ControlPlane
from tests.support.desk import Desk, open_desk

RUNS = 230  # more than the API tells at once


@pytest.fixture
async def desk(plane: ControlPlane, admin: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """Give a desk at a site of many runs, run-7 with 7 tokens and so on; the last ended three hours ago."""
    at_us = int((plane.clock.now() - timedelta(hours=3)).timestamp() * 1e6)
    told = [
        Outcome(
            at_us=at_us, bytes_out=1, code="", duration_us=10**6, endpoint="chat", key="key_a", project="lab",
            replica="replica_a", request=f"req_{number}", result="answered", status=200, tokens_in=number,
            tokens_out=0, run=f"run-{number}",
        )
        for number in range(RUNS)
    ]  # fmt: skip
    await ship(plane, 0, lines(Opened(at_us=at_us, node="gw1"), *told))
    async with open_desk(plane, admin, tmp_path) as desk:
        yield desk


async def test_runs_are_cut_at_the_costliest_and_it_is_said_how_to_see_the_others(desk: Desk):
    shown = await desk.run("usage", "--by", "run")
    few = await desk.run("usage", "--by", "run", "--limit", "3", "--json")

    assert shown.out.count("run-") == 50
    assert "and 180 more by run; see them with --limit 230 or --all" in shown.out
    told = json.loads(few.out)
    assert ([row["key"] for row in told["rows"]], told["more"]) == (["run-229", "run-228", "run-227"], 227)


@pytest.mark.parametrize("words", [["--all"], ["--limit", "230"], ["--limit", "1000"]])
async def test_all_runs_are_told_once_each_to_who_asks_for_them(desk: Desk, words: list[str]):
    told = json.loads((await desk.run("usage", "--by", "run", *words, "--json")).out)

    assert [row["key"] for row in told["rows"]] == [f"run-{number}" for number in reversed(range(RUNS))]
    assert (told["more"], told["cursor"]) == (0, None)


async def test_a_table_of_times_that_are_forgotten_says_from_when_it_knows(desk: Desk):
    of_runs = await desk.run("usage", "--by", "run", "--since", "100d")
    of_days = await desk.run("usage", "--by", "day", "--since", "500d")
    of_late = await desk.run("usage", "--by", "run", "--since", "80d")

    assert "of runs nothing is known before" in of_runs.out
    assert "whole days are counted before" in of_days.out
    assert "known before" not in of_late.out


async def test_gpu_seconds_are_told_whole(desk: Desk):
    refused = await desk.run("usage", "--by", "job", "--limit", "3")

    assert (refused.code, "leave --limit and --all out" in refused.err) == (2, True)
