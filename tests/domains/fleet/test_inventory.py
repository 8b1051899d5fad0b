"""What agents tell is kept, and GPUs are cordoned: over a real database."""

import httpx
import pytest

from controlplane.domains.allocation.tables import Lease, LeasedGpu
from controlplane.domains.audit.types import SYSTEM, Role
from controlplane.domains.fleet import service as fleet
from controlplane.kit.errors import Denied
from tests.support.control_plane import ControlPlane, make_report

NODES = {
    "nodes": [
        {
            "name": "gpu1",
            "address": "10.0.0.1",
            "zone": "north",
            "purposes": [],
            "gpus": [{"type": "h100", "count": 2}],
        }
    ]
}
REASON = "fan rattles"


@pytest.fixture
async def operator(plane: ControlPlane) -> str:
    """Give an operator's key; gpu1 is declared and reports two GPUs."""
    key = await plane.administrator()
    async with plane.client(key) as client:
        assert (await client.put("/nodes", json=NODES)).status_code == httpx.codes.OK
    await plane.report("gpu1")
    return await plane.person(Role.OPERATOR)


async def ask(plane: ControlPlane, key: str, method: str, path: str, **body: str) -> httpx.Response:
    async with plane.client(key) as client:
        return await client.request(method, path, json=body or None)


async def test_a_report_of_an_agent_of_before_is_still_taken(plane: ControlPlane, operator: str):
    old = make_report(plane.clock, "gpu1", 2, "NVIDIA H100 80GB HBM3", 0).model_dump(mode="json", exclude_unset=True)
    assert "minor" not in old["gpus"][0]

    async with plane.machine("node", "gpu1") as client:
        answer = await client.post("/agent/reports", json=old)
    async with plane.database.transaction() as tx:
        (first, second) = await fleet.find_gpus(tx, "gpu1", [0, 1])

    assert answer.status_code == httpx.codes.NO_CONTENT
    assert (first.type, first.minor, first.island, first.mig, second.device) == ("h100", None, None, None, 1)


async def test_what_a_gpu_is_and_where_it_sits_is_found_again(plane: ControlPlane, operator: str):
    report = make_report(plane.clock, "gpu1", 2, "NVIDIA H100 80GB HBM3", 0).model_dump(mode="json")
    report["sequence"] += 1
    report["gpus"][0] |= {"minor": 5, "nvlink_island": 0, "numa_node": 1, "vbios": "96.1", "pcie_width": 16}
    report["gpus"][0]["mig"] = [{"uuid": "MIG-1", "profile": "1g.10gb", "gpu_instance": 7, "memory_total_bytes": 10}]

    async with plane.machine("node", "gpu1") as client:
        await client.post("/agent/reports", json=report)
    shown = (await ask(plane, operator, "GET", "/gpus/GPU-gpu1-0")).json()
    async with plane.database.transaction() as tx:
        found = await fleet.find_gpus(tx, "gpu1", [5])

    assert [gpu.uuid for gpu in found] == ["GPU-gpu1-0"]
    assert (shown["type"], shown["minor"], shown["island"], shown["numa"]) == ("h100", 5, 0, 1)
    assert (shown["mig"], shown["vbios"], shown["reading"]["pcie_width"]) == (["1g.10gb"], "96.1", 16)


async def test_a_gpu_that_is_gone_is_not_found_by_its_number(plane: ControlPlane, operator: str):
    plane.clock.move(5)
    await plane.report("gpu1", gpus=1)

    async with plane.database.transaction() as tx:
        found = await fleet.find_gpus(tx, "gpu1", [0, 1])
    node = (await ask(plane, operator, "GET", "/nodes/gpu1")).json()

    assert [gpu.uuid for gpu in found] == ["GPU-gpu1-0"]
    assert node["state"] == "degraded"
    assert "GPU GPU-gpu1-1 is missing" in node["reasons"]


async def test_a_cordon_has_a_reason_an_owner_and_a_time_and_is_recorded(plane: ControlPlane, operator: str):
    done = await ask(plane, operator, "PUT", "/gpus/GPU-gpu1-0/cordon", reason=REASON)
    listed = (await ask(plane, operator, "GET", "/gpus")).json()["items"]
    async with plane.database.transaction() as tx:
        cordons = await fleet.cordoned_gpus(tx)
    auditor = await plane.person(Role.AUDITOR)
    events = (await ask(plane, auditor, "GET", "/audit-events")).json()["items"]

    assert done.status_code == httpx.codes.OK
    assert {uuid: cordon.reason for uuid, cordon in cordons.items()} == {"GPU-gpu1-0": REASON}
    assert [gpu["cordon"] and gpu["cordon"]["reason"] for gpu in listed] == [REASON, None]
    assert listed[0]["cordon"]["owner"] == cordons["GPU-gpu1-0"].owner != ""
    assert ("gpu.cordoned", "GPU-gpu1-0") in [(event["event"], event["resource"]) for event in events]


async def test_the_same_cordon_again_changes_nothing_and_another_one_is_refused(plane: ControlPlane, operator: str):
    first = await ask(plane, operator, "PUT", "/gpus/GPU-gpu1-0/cordon", reason=REASON)
    plane.clock.move(60)
    again = await ask(plane, operator, "PUT", "/gpus/GPU-gpu1-0/cordon", reason=REASON)
    other = await ask(plane, operator, "PUT", "/gpus/GPU-gpu1-0/cordon", reason="mine now")

    assert again.json()["cordon"] == first.json()["cordon"]
    assert other.status_code == httpx.codes.CONFLICT
    assert REASON in other.json()["detail"]


async def test_an_uncordoned_gpu_takes_work_again_and_twice_is_once(plane: ControlPlane, operator: str):
    await ask(plane, operator, "PUT", "/gpus/GPU-gpu1-0/cordon", reason=REASON)

    answers = [await ask(plane, operator, "DELETE", "/gpus/GPU-gpu1-0/cordon") for _ in range(2)]

    assert [(answer.status_code, answer.json()["cordon"]) for answer in answers] == [(200, None), (200, None)]


async def test_a_gpu_that_nobody_reported_cannot_be_cordoned(plane: ControlPlane, operator: str):
    answer = await ask(plane, operator, "PUT", "/gpus/GPU-none/cordon", reason=REASON)

    assert answer.status_code == httpx.codes.NOT_FOUND
    assert answer.json()["remedy"] == "redoubt gpu list"


async def test_who_holds_a_gpu_is_shown_with_it(plane: ControlPlane, operator: str):
    async with plane.database.transaction() as tx:
        lease = Lease(
            id="lease_1",
            owner="job_7",
            count=1,
            gpu_type="h100",
            node="gpu1",
            share="redoubt",
            pool="training",
            over_quota=False,
            preemptible=False,
            granted_at=tx.now,
        )
        tx.session.add(lease)
        await tx.session.flush()
        tx.session.add(LeasedGpu(lease_id="lease_1", gpu_uuid="GPU-gpu1-1"))

    listed = (await ask(plane, operator, "GET", "/gpus")).json()["items"]
    cordoned = await ask(plane, operator, "PUT", "/gpus/GPU-gpu1-1/cordon", reason=REASON)

    assert [gpu["owner"] for gpu in listed] == ["", "job_7"]
    assert cordoned.json()["owner"] == "job_7"


async def test_who_only_reads_cordons_nothing(plane: ControlPlane, operator: str):
    auditor = await plane.person(Role.AUDITOR)

    answers = [
        await ask(plane, auditor, "PUT", "/gpus/GPU-gpu1-0/cordon", reason=REASON),
        await ask(plane, auditor, "DELETE", "/gpus/GPU-gpu1-0/cordon"),
    ]

    assert [answer.status_code for answer in answers] == [httpx.codes.FORBIDDEN] * 2
    with pytest.raises(Denied):
        async with plane.database.transaction() as tx:
            await fleet.cordon_gpu(tx, SYSTEM, uuid="GPU-gpu1-0", reason=REASON)
