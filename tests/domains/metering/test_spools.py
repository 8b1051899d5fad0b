"""Lines of a spool come into the audit log in order and once, however often and however broken they are sent."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import select

from controlplane.domains.audit.tables import AuditEvent
from controlplane.domains.metering.tables import GatewaySpool
from controlplane.gateway.records import AnyRecord, Chain, Closed, Denial, Intent, Opened, Outcome
from tests.support.control_plane import ControlPlane

BOOT = "cd" * 16
AT_US = 1_795_000_000_000_000


def lines(*records: AnyRecord) -> list[str]:
    chain = Chain()
    return [chain.add(record).decode() for record in records]


def request(name: str, secret: str = "secret_a") -> tuple[Intent, Outcome]:
    asked = Intent(
        at_us=AT_US, bytes_in=10, classification=2, endpoint="chat", key="key_a", policy="ab" * 32, project="blue",
        purpose="support", request=name, revision="revision_a", secret=secret, snapshot=4, source="10.1.2.3",
        streamed=False, zone="north",
    )  # fmt: skip
    ended = Outcome(
        at_us=AT_US + 5, bytes_out=20, code="", duration_us=5, endpoint="chat", key="key_a", project="blue",
        replica="replica_a", request=name, result="answered", status=200, tokens_in=7, tokens_out=3,
    )  # fmt: skip
    return asked, ended


def whole_spool() -> list[str]:
    denied = Denial(
        at_us=AT_US, code="purpose_not_allowed", key="key_a", policy="", project="blue", request="req_c",
        secret="secret_a", source="10.1.2.3", times=4,
    )  # fmt: skip
    return lines(Opened(at_us=AT_US, node="gw1"), *request("req_a"), *request("req_b"), denied, Closed(at_us=AT_US + 9))


async def ship(plane: ControlPlane, first: int, sent: list[str], boot: str = BOOT) -> httpx.Response:
    async with plane.machine("service", "gateway") as client:
        return await client.post("/gateway/spool", json={"boot": boot, "first": first, "lines": sent})


async def merged(plane: ControlPlane) -> list[AuditEvent]:
    async with plane.database.transaction() as tx:
        rows = await tx.session.scalars(select(AuditEvent).order_by(AuditEvent.seq))
        return [row for row in rows if row.event.startswith(("inference.", "spool."))]


async def test_every_line_becomes_one_event_of_its_key_in_order(plane: ControlPlane):
    answer = await ship(plane, 0, whole_spool())

    assert answer.json() == {"next_seq": 7}
    events = await merged(plane)
    assert [(e.event, e.actor, e.resource) for e in events] == [
        ("spool.opened", "gateway", BOOT),
        ("inference.intended", "key_a", "req_a"),
        ("inference.answered", "key_a", "req_a"),
        ("inference.intended", "key_a", "req_b"),
        ("inference.answered", "key_a", "req_b"),
        ("inference.denied", "key_a", "req_c"),
        ("spool.closed", "gateway", BOOT),
    ]
    told = events[1].details
    assert (told["zone"], told["purpose"], told["classification"], told["line"]) == ("north", "support", 2, 1)
    assert (events[2].details["tokens_in"], events[2].details["tokens_out"]) == (7, 3)
    async with plane.database.transaction() as tx:
        assert (await tx.session.get_one(GatewaySpool, ("gateway", BOOT))).closed_at is not None


async def test_the_request_of_a_line_is_told_by_that_line_alone(plane: ControlPlane):
    await ship(plane, 0, whole_spool())

    events = [(e.event, json.loads(e.body)) for e in await merged(plane)]

    assert [body["request"] for event, body in events if event.startswith("inference.")] == [
        "req_a", "req_a", "req_b", "req_b", "req_c",
    ]  # fmt: skip
    (opened,) = (body for event, body in events if event == "spool.opened")
    (closed,) = (body for event, body in events if event == "spool.closed")
    assert closed["request"] == opened["request"] != ""
    assert closed["decision"]["policy"] == opened["decision"]["policy"] != ""


async def test_sent_again_in_any_overlap_or_at_once_each_line_counts_once(plane: ControlPlane):
    spool = whole_spool()
    for first, last in ((0, 3), (0, 3), (1, 5), (5, 5), (3, 7), (0, 7)):
        assert (await ship(plane, first, spool[first:last])).status_code == 200
    await asyncio.gather(*(ship(plane, 0, spool) for _ in range(5)))

    assert [e.details["line"] for e in await merged(plane)] == list(range(7))


async def test_lines_that_came_too_early_are_sent_back_to_where_to_begin(plane: ControlPlane):
    spool = whole_spool()

    early = await ship(plane, 2, spool[2:])
    assert (early.status_code, early.json()["code"]) == (409, "spool_gap")
    assert (await ship(plane, 0, [])).json() == {"next_seq": 0}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spool: [spool[0], spool[2], spool[1], *spool[3:]],
        lambda spool: [spool[0], *spool[2:]],
        lambda spool: [spool[0], spool[1].replace("support", "search"), *spool[2:]],
        lambda spool: [spool[0], spool[1] + " ", *spool[2:]],
        lambda spool: [spool[0], json.dumps(json.loads(spool[1])), *spool[2:]],
        lambda spool: [spool[0], spool[1].replace('"zone"', '"prompt":"hi","zone"'), *spool[2:]],
        lambda spool: [spool[0], "{}", *spool[2:]],
        lambda spool: [spool[0], "not json", *spool[2:]],
    ],
    ids=["reordered", "gap", "other purpose", "white space", "other form", "unknown field", "no line", "no json"],
)
async def test_a_line_that_the_chain_does_not_hold_stops_the_spool_and_nothing_of_it_counts(plane, spoil):
    answer = await ship(plane, 0, spoil(whole_spool()))

    assert (answer.status_code, answer.json()["code"]) == (409, "spool_broken")
    assert await merged(plane) == []
    assert (await ship(plane, 0, whole_spool())).json() == {"next_seq": 7}


async def test_a_secret_was_used_when_its_newest_intent_says(plane: ControlPlane, admin: str):
    async with plane.client(admin) as client:
        made = (await client.post("/keys", json={"name": "app"})).json()
    await ship(plane, 0, lines(Opened(at_us=AT_US, node="gw1"), *request("req_a", made["secret_id"])))

    async with plane.client(admin) as client:
        used = (await client.get(f"/keys/{made['key']['id']}")).json()["last_used_at"]
    assert datetime.fromisoformat(used) == datetime.fromtimestamp(AT_US / 1e6, UTC)


@pytest.mark.parametrize(("kind", "name"), [("node", "gpu1"), ("service", "api")])
async def test_nobody_but_a_gateway_ships(plane: ControlPlane, kind: str, name: str):
    async with plane.machine(kind, name) as client:
        answer = await client.post("/gateway/spool", json={"boot": BOOT, "first": 0, "lines": []})
    assert answer.status_code == 403
