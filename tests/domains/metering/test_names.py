"""Clients write names into headers: of them a project has a bounded number in an hour and a day, and loses no token."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from controlplane.domains.metering import rules, store
from controlplane.domains.metering.tables import InferenceSum
from controlplane.domains.metering.types import Requests, UsageOf
from controlplane.gateway.records import Opened
from controlplane.kit.tx import Tx
from tests.domains.metering.test_requests import BEGAN, outcome, taken, used
from tests.domains.metering.test_spools import AT_US, lines, ship
from tests.support.control_plane import ControlPlane

MOST = rules.MOST_NAMES
AT_ONCE = 200  # requests a shipment


def spool_of(gateway: int, count: int) -> list[str]:
    told = [outcome(f"req_{gateway}_{n}", workflow=f"made-up-{gateway}-{n}", tokens_in=1) for n in range(count)]
    return lines(Opened(at_us=AT_US, node="gw1"), *told)


async def ship_all(plane: ControlPlane, gateway: int, count: int) -> None:
    spool = spool_of(gateway, count)
    for first in range(0, len(spool), AT_ONCE):
        answer = await ship(plane, first, spool[first : first + AT_ONCE], boot=f"{gateway:02x}" * 16)
        assert answer.status_code == 200, answer.text


async def test_of_invented_names_the_first_are_told_and_the_rest_as_other_with_every_token(plane: ControlPlane):
    await ship(plane, 0, lines(Opened(at_us=AT_US, node="gw1"), outcome("req_first", workflow="billing", tokens_in=5)))

    await asyncio.gather(*(ship_all(plane, gateway, 150) for gateway in (1, 2)))
    later = lines(Opened(at_us=AT_US, node="gw1"), outcome("req_later", workflow="billing", agent="new"))
    await ship(plane, 0, later, boot="ef" * 16)

    for hours in (7, 8):  # until 23:00, and the whole day by its own sums
        asked: dict[str, Any] = {"since": BEGAN.replace(hour=0), "hours": hours}
        told = await used(plane, UsageOf.WORKFLOW, **asked)
        assert (len(told), told[rules.OTHER].tokens_in) == (MOST + 1, 301 - MOST)
        assert (told["billing"].tokens_in, sum(sums.tokens_in for sums in told.values())) == (12, 312)
        assert set(await used(plane, UsageOf.AGENT, **asked)) == {"reader", rules.OTHER}
    async with plane.database.transaction() as tx:
        rows = await tx.session.scalar(select(func.count()).select_from(InferenceSum))
    assert rows == 2 * (MOST + 2)


async def test_two_that_add_names_at_once_wait_for_each_other(plane: ControlPlane):
    slot = ("hour", BEGAN, "lab")
    async with plane.database.transaction() as first:
        await store.lock_slots(first, [slot])

        waiting = asyncio.create_task(ship_all(plane, 1, 3))
        await until_somebody_waits(first)
        assert not waiting.done()
    await waiting

    assert len(await used(plane, UsageOf.WORKFLOW)) == 3


async def until_somebody_waits(tx: Tx) -> None:
    here = "(select oid from pg_database where datname = current_database())"
    waits = text(f"select count(*) from pg_locks where locktype = 'advisory' and not granted and database = {here}")
    async with asyncio.timeout(20):
        while not await tx.session.scalar(waits):  # noqa: ASYNC110 - the database tells it in no other way
            await asyncio.sleep(0.02)


word = st.sampled_from(["", *(f"w{n}" for n in range(30))])
pairs = st.tuples(word, word)


@given(st.lists(st.sets(pairs), max_size=6), st.integers(1, 8))
def test_names_are_bounded_and_who_has_one_keeps_it(batches, most):
    known: set[rules.Names] = set()
    for wanted in batches:
        admitted = rules.admit(known, wanted, most=most)
        assert set(admitted) == wanted
        assert all(admitted[names] == names for names in wanted & known)
        known |= set(admitted.values())
    assert len(known) <= 4 * most + 4


@given(st.lists(pairs, max_size=40))
def test_under_other_names_nothing_is_lost(names):
    told = [
        taken(number, "answered", number, AT_US).model_copy(update={"workflow": workflow, "agent": agent})
        for number, (workflow, agent) in enumerate(names)
    ]
    cells = rules.add_up(told)
    admitted = {slot: rules.admit((), wanted, most=3) for slot, wanted in rules.wanted_names(cells).items()}

    renamed = rules.rename(cells, admitted)

    assert list(renamed) == sorted(renamed)
    for span in ("hour", "day"):
        total = sum((value for cell, value in renamed.items() if cell.span == span), Requests())
        assert (total.calls, total.tokens_in) == (len(names), sum(range(len(names))))
