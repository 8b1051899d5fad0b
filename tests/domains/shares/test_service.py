"""Shares, quotas, pools and reservations, through the admin API."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from controlplane.domains.allocation import service as allocation
from controlplane.domains.audit.types import Role
from controlplane.domains.shares.rules import classes_of, free_slot, may_preempt
from controlplane.engines.scheduler import ReservationKind
from tests.support.control_plane import ControlPlane
from tests.support.fleets import make_terms


async def ask(plane: ControlPlane, who: str, method: str, path: str, **body: Any) -> httpx.Response:
    async with plane.client(who) as client:
        return await client.request(method, path, json=body or None)


async def make_tenant(plane: ControlPlane, admin: str, project: str = "blue") -> None:
    await ask(plane, admin, "POST", "/shares", kind="organisation", name="acme")
    answer = await ask(plane, admin, "POST", "/shares", kind="project", name=project, parent="acme")
    assert answer.status_code == 201, answer.text


async def test_a_site_begins_with_the_platforms_own_project_and_every_pool(plane: ControlPlane, admin: str):
    shares = (await ask(plane, admin, "GET", "/shares")).json()["items"]
    pools = (await ask(plane, admin, "GET", "/pools")).json()["items"]

    assert [(s["name"], s["kind"], s["user"]) for s in shares] == [
        ("redoubt", "project", "redoubt-serve"),
        ("site", "organisation", ""),
    ]
    assert [p["name"] for p in pools] == ["inference", "interactive", "spare", "training"]


async def test_a_project_gets_the_smallest_slot_that_none_ever_had(plane: ControlPlane, admin: str):
    await make_tenant(plane, admin)
    await ask(plane, admin, "DELETE", "/shares/blue")

    red = (await ask(plane, admin, "POST", "/shares", kind="project", name="red", parent="acme")).json()
    again = await ask(plane, admin, "POST", "/shares", kind="project", name="blue", parent="acme")
    team = (await ask(plane, admin, "POST", "/shares", kind="team", name="crew", parent="red")).json()

    assert (red["slot"], red["user"]) == (2, "redoubt-p02")
    assert again.status_code == 409
    assert (team["project"], team["user"]) == ("red", "redoubt-p02")


async def test_without_a_slot_the_refusal_says_how_to_get_more(plane: ControlPlane, admin: str):
    plane.admin_app.state.project_slots = 1
    await make_tenant(plane, admin)

    answer = await ask(plane, admin, "POST", "/shares", kind="project", name="red", parent="acme")

    assert (answer.status_code, answer.json()["code"]) == (409, "no_slot")
    assert "project_slots in site.yml" in answer.json()["remedy"]


async def test_a_quota_guarantees_no_more_than_its_limit_and_parts_no_more_than_the_whole(
    plane: ControlPlane, admin: str
):
    await make_tenant(plane, admin)
    await ask(plane, admin, "POST", "/shares", kind="project", name="red", parent="acme")

    async def put(share: str, guaranteed: int, most: int) -> int:
        path = f"/shares/{share}/quotas/h100"
        return (await ask(plane, admin, "PUT", path, guaranteed=guaranteed, most=most)).status_code

    assert await put("blue", 3, 2) == 422
    assert await put("acme", 4, 8) == 200
    assert await put("blue", 3, 8) == 200
    assert await put("red", 2, 8) == 409
    assert await put("acme", 2, 8) == 409
    assert await put("redoubt", 1, 1) == 409


async def test_a_pool_keeps_what_is_not_given_and_loses_a_limit_that_is_named(plane: ControlPlane, admin: str):
    await ask(plane, admin, "PATCH", "/pools/training", max_gpus={"h100": 4, "a100": 2}, project_most=3)

    done = (await ask(plane, admin, "PATCH", "/pools/training", grace_s=90, unbounded=["h100", "project_most"])).json()

    assert (done["max_gpus"], done["project_most"], done["grace_s"]) == ({"a100": 2}, None, 90)


async def test_content_is_kept_for_a_share_and_its_parts_once_a_data_steward_says_so(plane: ControlPlane, admin: str):
    await make_tenant(plane, admin)
    await ask(plane, admin, "POST", "/shares", kind="team", name="vision", parent="blue")
    steward = await plane.person(Role.DATA_STEWARD)

    before = (await ask(plane, steward, "GET", "/shares/vision")).json()
    denied = await ask(plane, admin, "PATCH", "/shares/blue", keeps_content=True)
    said = await ask(plane, steward, "PATCH", "/shares/blue", keeps_content=True)
    kept = {s["name"]: s["keeps_content"] for s in (await ask(plane, steward, "GET", "/shares")).json()["items"]}
    await ask(plane, steward, "PATCH", "/shares/blue", keeps_content=False)
    after = (await ask(plane, steward, "GET", "/shares/vision")).json()

    assert (before["keeps_content"], denied.status_code, said.status_code) == (False, 403, 200)
    assert (kept["blue"], kept["vision"], kept["acme"]) == (True, True, False)
    assert not after["keeps_content"]


async def test_a_tenant_sees_its_own_project_alone(plane: ControlPlane, admin: str):
    await make_tenant(plane, admin)
    await ask(plane, admin, "POST", "/shares", kind="project", name="red", parent="acme")
    await ask(plane, admin, "PUT", "/shares/red/quotas/h100", guaranteed=0, most=2)
    tenant = await plane.person(Role.TENANT_ADMIN, project="blue")

    shares = (await ask(plane, tenant, "GET", "/shares")).json()["items"]
    quotas = (await ask(plane, tenant, "GET", "/quotas")).json()["items"]
    other = await ask(plane, tenant, "GET", "/shares/red")
    change = await ask(plane, tenant, "PUT", "/shares/blue/quotas/h100", guaranteed=0, most=9)

    assert [share["name"] for share in shares] == ["blue"]
    assert (quotas, other.status_code, change.status_code) == ([], 404, 403)


@pytest.mark.parametrize(
    ("kind", "asked", "status"),
    [
        ("maintenance", {"nodes": ["gpu1"], "hours": 2}, 201),
        ("maintenance", {"nodes": ["gpu1"]}, 422),
        ("maintenance", {"node_count": 1, "hours": 2}, 422),
        ("guaranteed", {"nodes": ["gpu1"], "accounts": ["redoubt"]}, 201),
        ("guaranteed", {"nodes": ["gpu1"]}, 422),
        ("guaranteed", {"nodes": ["gpu1"], "accounts": ["nobody"]}, 404),
        ("spare", {"node_count": 1}, 201),
        ("spare", {}, 422),
        ("spare", {"nodes": ["gpu7"]}, 404),
        ("spare", {"node_count": 1, "hours": -1}, 422),
    ],
)
async def test_a_reservation_says_what_it_lacks(
    plane: ControlPlane, admin: str, kind: str, asked: dict[str, Any], status: int
):
    await declare(plane, admin)
    hours = asked.pop("hours", None)
    if hours is not None:
        asked["ends_at"] = (plane.clock.now() + timedelta(hours=hours)).isoformat()

    answer = await ask(plane, admin, "POST", "/reservations", name="r1", kind=kind, **asked)

    assert answer.status_code == status, answer.text


async def test_a_scheduler_is_told_of_shares_limits_classes_and_reservations(plane: ControlPlane, admin: str):
    await declare(plane, admin)
    await plane.report("gpu1")
    await make_tenant(plane, admin)
    await ask(plane, admin, "PUT", "/shares/blue/quotas/a100", guaranteed=1, most=2)
    await ask(plane, admin, "POST", "/reservations", name="spares", kind="spare", node_count=1)
    await ask(plane, admin, "POST", "/shares", kind="project", name="old", parent="acme")
    await ask(plane, admin, "DELETE", "/shares/old")

    async with plane.database.transaction() as tx:
        wanted = await allocation.wanted_scheduler(tx)

    accounts = {account.name: account for account in wanted.accounts}
    assert sorted(accounts) == ["acme", "blue", "redoubt", "site"]
    assert accounts["blue"].gpus == (("a100", 2), ("h100", 0))
    assert accounts["blue"].users == ("redoubt-p01", "redoubt-serve")
    assert accounts["redoubt"].gpus == ()
    assert [qos.name for qos in wanted.qos] == [
        "hold", "inference", "inference-over", "interactive", "interactive-over", "training", "training-over",
    ]  # fmt: skip
    assert [(one.kind, one.node_count) for one in wanted.reservations] == [(ReservationKind.SPARE, 1)]


def test_slots_are_counted_from_one_and_end():
    assert [free_slot(taken, 3) for taken in ([], [1], [2, 3], [1, 2, 3])] == [1, 2, 1, None]


def test_who_preempts_whom_is_what_was_agreed():
    assert may_preempt("inference", "training")
    assert may_preempt("interactive", "training-over")
    assert not may_preempt("interactive", "training")
    assert not may_preempt("training-over", "training-over")
    assert not any(may_preempt(name, "hold") or may_preempt("hold", name) for name in ("inference", "training-over"))
    assert not any(may_preempt(name, "inference") for name in ("inference", "interactive", "training"))


def test_only_training_is_requeued_and_inference_spoils_no_fair_share():
    made = {qos.name: qos for qos in classes_of([make_terms()])}

    assert made["training"].requeues
    assert made["training"].preempts == ("training-over", "interactive-over")
    assert made["training-over"].preempts == ()


async def declare(plane: ControlPlane, admin: str) -> None:
    nodes = [
        {
            "name": "gpu1",
            "address": "203.0.113.11",
            "zone": "north",
            "purposes": ["compute"],
            "gpus": [{"type": "h100", "count": 2}],
        }
    ]
    answer = await ask(plane, admin, "PUT", "/nodes", nodes=nodes)
    assert answer.status_code == 200, answer.text
