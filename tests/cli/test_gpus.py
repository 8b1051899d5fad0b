"""redoubt gpu against a real API on loopback."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.domains.audit.types import Role
from tests.support.control_plane import ControlPlane, make_report
from tests.support.desk import Desk, open_desk


@pytest.fixture
async def desk(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Desk]:
    """Give an operator's desk; gpu1 reports four GPUs, two on each NUMA node and island."""
    await report(plane)
    async with open_desk(plane, await plane.person(Role.OPERATOR), tmp_path) as desk:
        yield desk


async def report(plane: ControlPlane, count: int = 4) -> None:
    told = make_report(plane.clock, "gpu1", count, "NVIDIA H100 80GB HBM3", 0).model_dump(mode="json")
    for gpu in told["gpus"]:
        gpu |= {"minor": gpu["index"], "numa_node": gpu["index"] // 2, "nvlink_island": gpu["index"] // 2 * 2}
    async with plane.machine("node", "gpu1") as client:
        await client.post("/agent/reports", json=told)


async def test_the_tree_shows_where_each_gpu_sits_and_which_is_cordoned(desk: Desk):
    cordoned = await desk.run("gpu", "cordon", "gpu1:1", "--reason", "fan [rattles]")
    tree = await desk.run("gpu", "tree")
    nested = json.loads((await desk.run("gpu", "tree", "--json")).out)

    assert "GPU-gpu1-1 on gpu1 takes no new work" in cordoned.out
    lines = [line.strip("│├└─ ") for line in tree.out.splitlines()]
    assert [line for line in lines if line.startswith(("NUMA", "NVLink"))] == [
        "NUMA 0",
        "NVLink island 0",
        "NUMA 1",
        "NVLink island 2",
    ]
    (told,) = (line for line in lines if "GPU-gpu1-1" in line)
    assert "cordoned by" in told
    assert "fan [rattles]" in told
    assert [(group["numa"], group["island"], len(group["gpus"])) for group in nested[0]["groups"]] == [
        (0, 0, 2),
        (1, 2, 2),
    ]


async def test_a_gpu_is_named_by_its_place_or_its_uuid_and_never_by_half(desk: Desk):
    shown = [
        json.loads((await desk.run("gpu", "show", which, "--json")).out)["uuid"] for which in ("gpu1:2", "GPU-gpu1-2")
    ]
    many, none = await desk.run("gpu", "show", "GPU-gpu1"), await desk.run("gpu", "show", "gpu9:0")

    assert set(shown) == {"GPU-gpu1-2"}
    assert 0 not in (many.code, none.code)
    assert "beginning of 4 UUIDs" in many.err
    assert "next: redoubt gpu list" in none.err


async def test_show_has_every_reading_in_one_line_each(desk: Desk):
    done = await desk.run("gpu", "show", "gpu1:0")

    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert (lines["type"], lines["island"], lines["cordon"].strip()) == ("h100", "0", "-")
    assert lines["reading.temperature_c"] == "40"


async def test_a_second_cordon_names_the_first_and_uncordon_ends_it(desk: Desk):
    await desk.run("gpu", "cordon", "gpu1:0", "--reason", "ecc")
    second = await desk.run("gpu", "cordon", "gpu1:0", "--reason", "mine")
    ended = await desk.run("gpu", "uncordon", "gpu1:0")
    listed = await desk.run("gpu", "list", "--node", "gpu1")

    assert second.code != 0
    assert "ecc" in second.err
    assert "takes work" in ended.out
    assert "ecc" not in listed.out


async def test_a_node_that_comes_back_with_fewer_gpus_is_shown_with_their_uuids(plane: ControlPlane, desk: Desk):
    admin = await plane.person(Role.PLATFORM_ADMIN)
    node = {"name": "gpu1", "address": "10.0.0.1", "zone": "north", "purposes": []}
    async with plane.client(admin) as client:
        await client.put("/nodes", json={"nodes": [node | {"gpus": [{"type": "h100", "count": 4}]}]})
    plane.clock.move(5)
    await report(plane, 3)

    tree = await desk.run("gpu", "tree")

    assert "degraded" in tree.out
    assert "! 4 x h100 declared, 3 present" in tree.out
    assert "! GPU GPU-gpu1-3 is missing" in tree.out
