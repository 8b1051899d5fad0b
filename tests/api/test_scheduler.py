"""The scheduler and usage over the API: who may see and do what, and what they are told."""

from datetime import datetime, timedelta

import httpx
import pytest

from controlplane.domains.allocation import service as allocation
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.metering import service as metering
from controlplane.domains.scheduler.loops import SchedulerLoop
from controlplane.domains.scheduler.types import Kind
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import ShareKind
from controlplane.engines.scheduler import Account, UsedGpus
from controlplane.gateway.records import Opened, Outcome
from controlplane.kit.paging import to_cursor
from tests.domains.metering.test_spools import lines, ship
from tests.support.control_plane import ControlPlane
from tests.support.table_scheduler import TableScheduler

ADMIN = Actor("ada", Role.PLATFORM_ADMIN, frozenset({Role.PLATFORM_ADMIN, Role.OPERATOR}))


@pytest.fixture
async def projects(plane: ControlPlane) -> None:
    """Make two projects, one of which has a team, with an hour of two GPUs each and half an hour of the team's one."""
    async with plane.database.transaction() as tx:
        for kind, name, parent in (
            (ShareKind.ORGANISATION, "uni", ""),
            (ShareKind.PROJECT, "lab", "uni"),
            (ShareKind.PROJECT, "other", "uni"),
            (ShareKind.TEAM, "vision", "lab"),
        ):
            await shares.create_share(tx, ADMIN, kind=kind, name=name, parent=parent, weight=1, slots=16)
        began = tx.now - timedelta(hours=3)
        used = [
            UsedGpus(ref, f"job_{ref}", account, "u", "p", "h100", gpus, "gpu1", began, began + length, "completed")
            for ref, account, gpus, length in (
                ("1", "lab", 2, timedelta(hours=1)),
                ("2", "other", 2, timedelta(hours=1)),
                ("3", "vision", 1, timedelta(minutes=30)),
            )
        ]
        await metering.record_used(tx, SYSTEM, used=used, known_until=tx.now)


async def get(plane: ControlPlane, token: str, path: str, **asked: str):
    async with plane.client(token) as client:
        return await client.get(path, params=asked)


async def post(plane: ControlPlane, token: str, **body: object):
    async with plane.client(token) as client:
        return await client.post("/scheduler/applies", json=body, headers={"Idempotency-Key": "k" * 20})


async def test_usage_is_told_by_project_with_its_teams(plane, admin, projects):
    answer = (await get(plane, admin, "/usage")).json()

    assert {row["key"]: row["gpu_seconds"] for row in answer["rows"]} == {"lab": 9000, "other": 7200}
    assert answer["known_until"]


@pytest.mark.parametrize(
    ("by", "rows"),
    [("job", {"job_1": 7200, "job_3": 1800}), ("type", {"h100": 9000}), ("node", {"gpu1": 9000})],
)
async def test_usage_of_one_project_is_told_by_other_words(plane, admin, projects, by, rows):
    answer = (await get(plane, admin, "/usage", project="lab", by=by)).json()

    assert {row["key"]: row["gpu_seconds"] for row in answer["rows"]} == rows


async def test_a_tenant_sees_its_own_project_and_no_other(plane, projects):
    tenant = await plane.person(Role.TENANT_USER, name="tim", project="lab")

    own = (await get(plane, tenant, "/usage")).json()
    of_other = await get(plane, tenant, "/usage", project="other")
    scheduler = await get(plane, tenant, "/scheduler")

    assert [row["key"] for row in own["rows"]] == ["lab"]
    assert of_other.status_code in {httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}
    assert scheduler.status_code == httpx.codes.FORBIDDEN


async def test_a_project_that_is_none_and_a_time_that_ends_first_are_refused(plane, admin, projects):
    unknown = await get(plane, admin, "/usage", project="nobody")
    backwards = await get(plane, admin, "/usage", since="2026-01-02T00:00:00Z", until="2026-01-01T00:00:00Z")

    assert unknown.status_code == httpx.codes.NOT_FOUND
    assert backwards.status_code == httpx.codes.UNPROCESSABLE_ENTITY


@pytest.fixture
async def requests(plane: ControlPlane, projects: None) -> None:
    """Make three requests an hour ago: of a project, of its team, and of another project."""
    async with plane.database.transaction() as tx:
        at_us = int((tx.now - timedelta(hours=1)).timestamp() * 1e6)
    told = [
        Outcome(
            at_us=at_us, bytes_out=1, code="", duration_us=10**6, endpoint="chat", key=f"key_{share}", project=share,
            replica="replica_a", request=f"req_{share}", result="answered", status=200, tokens_in=tokens, tokens_out=1,
            agent="reader", gpu_us=500_000, model="tiny", retries=1, run=f"run_{share}", ttft_us=ttft_us,
            workflow="billing", zone="north",
        )
        for share, tokens, ttft_us in (("lab", 100, 10_000), ("vision", 40, 30_000), ("other", 7, None))
    ]  # fmt: skip
    answer = await ship(plane, 0, lines(Opened(at_us=at_us, node="gw1"), *told))
    assert answer.status_code == httpx.codes.OK, answer.text


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("project", {"lab": 140, "other": 7}),
        ("team", {"": 107, "vision": 40}),
        ("workflow", {"billing": 147}),
        ("agent", {"reader": 147}),
        ("model", {"tiny": 147}),
        ("run", {"run_lab": 100, "run_vision": 40, "run_other": 7}),
        ("zone", {"north": 147}),
    ],
)
async def test_tokens_are_told_by_what_the_requests_were_for_most_first(plane, admin, requests, by, rows):
    answer = (await get(plane, admin, "/usage/requests", by=by)).json()

    assert [(row["key"], row["tokens_in"]) for row in answer["rows"]] == list(rows.items())


async def test_a_row_of_requests_tells_calls_times_and_gpu_seconds(plane, admin, requests):
    (row,) = (await get(plane, admin, "/usage/requests", by="project", project="lab")).json()["rows"]

    assert row == {
        "key": "lab", "calls": 2, "failures": 0, "untold": 0, "retries": 2, "tokens_in": 140, "tokens_out": 2,
        "tokens_cached": 0, "tokens_reasoning": 0, "gpu_seconds": 1.0, "queue_s": 0.0, "first_token_s": 0.02,
    }  # fmt: skip


async def test_a_report_of_requests_says_from_when_on_hours_are_known(plane, admin, requests):
    old = (await get(plane, admin, "/usage/requests", by="agent", since="2021-02-03T04:05:00Z")).json()

    assert old["since"] == "2021-02-03T00:00:00Z"
    assert timedelta(days=399) <= plane.clock.now() - datetime.fromisoformat(old["known_since"]) <= timedelta(days=400)
    assert [row["tokens_in"] for row in old["rows"]] == [147]


@pytest.mark.parametrize("by", ["run", "project"])
async def test_a_report_of_many_names_is_told_in_pages(plane, admin, requests, by):
    first = (await get(plane, admin, "/usage/requests", by=by, limit="1")).json()
    later = (await get(plane, admin, "/usage/requests", by=by, cursor=first["cursor"])).json()
    whole = (await get(plane, admin, "/usage/requests", by=by)).json()

    assert (len(first["rows"]), first["more"]) == (1, len(whole["rows"]) - 1)
    assert first["rows"] + later["rows"] == whole["rows"]
    assert (later["more"], later["cursor"], whole["cursor"]) == (0, None, None)


@pytest.mark.parametrize("after", ["x", "run_lab", "-1/a", "1234567890123456789012/a"])
async def test_a_cursor_that_no_report_gave_is_refused(plane, admin, after):
    answer = await get(plane, admin, "/usage/requests", by="run", cursor=to_cursor(after))

    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY


async def test_a_tenant_sees_the_tokens_of_its_own_project_alone(plane, requests):
    tenant = await plane.person(Role.TENANT_USER, name="tim", project="lab")

    own = (await get(plane, tenant, "/usage/requests", by="key")).json()
    of_other = await get(plane, tenant, "/usage/requests", project="other")

    assert [row["key"] for row in own["rows"]] == ["key_lab", "key_vision"]
    assert of_other.status_code in {httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}


async def test_the_scheduler_is_shown_with_what_is_right_drifted_and_foreign(plane, admin, projects):
    scheduler = TableScheduler(foreign=("account theirs: of physics, below root",))
    loop = SchedulerLoop(plane.database, scheduler, allocation.wanted_scheduler)
    await loop.step()
    await loop.step()
    scheduler.change("account", "lab", weight=9)
    await loop.step()

    view = (await get(plane, admin, "/scheduler")).json()

    states = {(thing["kind"], thing["name"]): thing["state"] for thing in view["things"]}
    assert states["account", "lab"] == "drift"
    assert states["account", "theirs"] == "foreign"
    assert states["account", "other"] == "right"
    assert states["qos", "inference"] == "right"
    [drift] = view["drift"]
    assert drift["what"] == "was changed: weight 1 -> 9"
    assert view["changes"] == []


async def test_drift_is_ended_by_who_asks_for_it_and_shown_beforehand(plane, admin, projects):
    scheduler = TableScheduler()
    loop = SchedulerLoop(plane.database, scheduler, allocation.wanted_scheduler)
    await loop.step()
    await loop.step()
    scheduler.change("account", "lab", weight=9)
    await loop.step()
    planned = (await get(plane, admin, "/scheduler", takes_over="true")).json()

    asked = await post(plane, admin, takes_over=True)
    await loop.step()
    done = (await get(plane, admin, f"/scheduler/applies/{asked.json()['id']}")).json()

    assert planned["changes"] == ["change account lab: weight 9 -> 1"]
    assert asked.status_code == httpx.codes.ACCEPTED
    assert asked.json()["over"] == ["account lab"]
    assert done["changes"] == ["change account lab: weight 9 -> 1"]
    lab = scheduler.things[Kind.ACCOUNT, "lab"]
    assert isinstance(lab, Account)
    assert lab.weight == 1


async def test_an_operator_may_apply_and_may_not_overwrite_what_others_did(plane, projects):
    operator = await plane.person(Role.OPERATOR, name="otto")

    assert (await post(plane, operator, takes_over=False)).status_code == httpx.codes.ACCEPTED
    assert (await post(plane, operator, takes_over=True)).status_code in {
        httpx.codes.FORBIDDEN,
        httpx.codes.UNPROCESSABLE_ENTITY,
    }


async def test_an_apply_that_nobody_asked_for_is_not_found(plane, admin):
    assert (await get(plane, admin, "/scheduler/applies/apply_x")).status_code == httpx.codes.NOT_FOUND
