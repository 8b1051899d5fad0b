"""redoubt budget list and show against a real API on loopback."""

import json
from pathlib import Path

from tests.domains.budgets.test_service import granted, make_budget, ship
from tests.support.control_plane import ControlPlane
from tests.support.desk import open_desk

A, B = "aa" * 16, "bb" * 16


async def test_a_limit_for_each_name_is_shown_beside_what_the_busiest_name_spent(
    plane: ControlPlane, admin: str, tmp_path: Path
):
    budget = await make_budget(plane, admin, scope="run", name="*")
    for boot, run, spent in ((A, "nightly", 70), (B, "daily", 60)):
        await granted(plane, boot, 1, f"{budget}/{run}", 80)
        await ship(plane, boot, f"{budget}/{run}", spent, closes=False)

    async with open_desk(plane, admin, tmp_path) as desk:
        listed = await desk.run("budget", "list")
        shown = await desk.run("budget", "show", budget)
        (told,) = json.loads((await desk.run("budget", "list", "--json")).out)

    assert "70 (nightly, of 2 names)" in listed.out
    assert "130" not in listed.out, "no limit of 100 is passed"
    assert [line.split() for line in shown.out.splitlines() if line.startswith((" nightly", " daily"))] == [
        ["daily", "60", "20"], ["nightly", "70", "10"],
    ]  # fmt: skip
    assert (told["spent"], told["names"], told["busiest"]) == (130, 2, {"name": "nightly", "spent": 70, "allotted": 10})


async def test_a_budget_without_names_has_no_table_of_them(plane: ControlPlane, admin: str, tmp_path: Path):
    budget = await make_budget(plane, admin)
    await granted(plane, A, 1, budget, 80)
    await ship(plane, A, budget, 70, closes=False)

    async with open_desk(plane, admin, tmp_path) as desk:
        shown = await desk.run("budget", "show", budget)

    (line,) = [line for line in shown.out.splitlines() if budget in line]
    assert line.split()[-4:] == ["100", "70", "10", "0"]
    assert shown.out.count("ALLOTTED") == 1
