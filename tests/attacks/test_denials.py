"""A stranger who asks a million times leaves a count, not a million events."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from controlplane.domains.audit.tables import AuditEvent
from controlplane.web.denials import ELSEWHERE, MOST_SOURCES, DenialCounter, record_counts
from tests.support.control_plane import ControlPlane

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


async def test_of_many_denials_of_one_source_the_first_is_an_event_and_the_rest_are_one_count(plane: ControlPlane):
    async with plane.client("rda_wrong") as client:
        for _ in range(30):
            await client.get("/endpoints")
    plane.clock.move(61)
    async with plane.client() as client:
        await client.get("/endpoints")

    events = [(e.event, e.resource, e.details.get("count")) for e in await _events(plane)]

    assert events == [
        ("request.denied", "/api/v1/endpoints", None),
        ("request.denials_counted", "127.0.0.1", 29),
        ("request.denied", "/api/v1/endpoints", None),
    ]


async def test_the_count_is_written_without_another_denial(plane: ControlPlane):
    async with plane.client() as client:
        await client.get("/endpoints")
        await client.get("/endpoints")
    plane.clock.move(61)
    counter: DenialCounter = plane.admin_app.state.denials

    await record_counts(plane.database, counter.settle(plane.database.now()))

    assert [e.event for e in await _events(plane)] == ["request.denied", "request.denials_counted"]


def test_counting_is_bounded_however_many_sources_ask():
    counter = DenialCounter()
    recorded = sum(counter.note(f"10.0.{i // 256}.{i % 256}", "x", NOW) for i in range(5000))
    tallies = counter.settle(NOW + timedelta(seconds=61))

    assert recorded == MOST_SOURCES + 1
    assert [(t.source, t.count) for t in tallies] == [(ELSEWHERE, 5000 - MOST_SOURCES - 1)]


def test_a_neighbour_cannot_multiply_itself_within_its_ipv6_network():
    counter = DenialCounter()
    assert [counter.note(f"2001:db8::{i:x}", "x", NOW) for i in range(3)] == [True, False, False]


def test_a_clock_that_steps_back_ends_a_minute_too():
    counter = DenialCounter()
    counter.note("10.0.0.1", "x", NOW)
    counter.note("10.0.0.1", "x", NOW)
    assert [t.count for t in counter.settle(NOW - timedelta(hours=1))] == [1]


async def _events(plane: ControlPlane) -> list[AuditEvent]:
    async with plane.database.transaction() as tx:
        return list(await tx.session.scalars(select(AuditEvent).order_by(AuditEvent.seq)))
