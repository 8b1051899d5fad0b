"""A certificate that nobody renews is an incident while a quarter of its life is left, and ends by its successor."""

from datetime import timedelta

import httpx

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.health import service as health
from tests.support.control_plane import ControlPlane, make_report

LIFE = timedelta(hours=48)


async def tell(plane: ControlPlane, *, age: timedelta, serial: str) -> None:
    start = plane.clock.now() - age
    leaf = {
        "name": "gateway",
        "serial": serial,
        "not_before": start.isoformat(),
        "not_after": (start + LIFE).isoformat(),
    }
    report = make_report(plane.clock, "gw1", 0, "", 0).model_dump(mode="json")
    async with plane.machine("node", "gw1") as node:
        answer = await node.post("/agent/reports", json={**report, "certificates": [leaf]})
    assert answer.status_code == httpx.codes.NO_CONTENT, answer.text


async def incidents(plane: ControlPlane, admin: str) -> list[tuple[str, str]]:
    async with plane.database.transaction() as tx:
        await health.settle_incidents(tx, SYSTEM)
    async with plane.client(admin) as client:
        found = (await client.get("/incidents")).json()["items"]
    return [(one["kind"], one["subject"]) for one in found if one["kind"] == "certificate-ending"]


async def test_an_incident_opens_at_a_quarter_of_life_and_the_successor_closes_it(
    plane: ControlPlane, admin: str
) -> None:
    await tell(plane, age=timedelta(hours=35), serial="5e")
    assert await incidents(plane, admin) == []

    plane.clock.move(2 * 3600)
    assert await incidents(plane, admin) == [("certificate-ending", "gw1")]

    await tell(plane, age=timedelta(0), serial="5f")
    assert await incidents(plane, admin) == []


async def test_a_node_that_fell_silent_with_its_certificate_is_still_an_incident(
    plane: ControlPlane, admin: str
) -> None:
    await tell(plane, age=timedelta(hours=20), serial="5e")

    plane.clock.move(100 * 3600)

    assert await incidents(plane, admin) == [("certificate-ending", "gw1")]


async def test_what_agents_tell_can_be_listed(plane: ControlPlane, admin: str) -> None:
    await tell(plane, age=timedelta(hours=1), serial="5e")

    async with plane.client(admin) as client:
        found = (await client.get("/node-certificates")).json()["items"]
    assert [(leaf["node"], leaf["name"], leaf["serial"]) for leaf in found] == [("gw1", "gateway", "5e")]
