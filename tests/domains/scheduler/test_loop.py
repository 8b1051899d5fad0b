"""The loop that brings the scheduler to what is wanted, against a real database and a scheduler in memory."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from controlplane.domains.audit.tables import AuditEvent
from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.scheduler import service, store
from controlplane.domains.scheduler.loops import SchedulerLoop
from controlplane.domains.scheduler.types import Kind
from controlplane.engines.scheduler import Account, Hand, Qos, SchedulerState
from controlplane.kit.errors import Unavailable
from tests.support.table_scheduler import TableScheduler

LAB, TRAINING = Account("lab", "", gpus=(("h100", 2),)), Qos("training", 200)
ADMIN = Actor("ada", Role.PLATFORM_ADMIN, frozenset({Role.PLATFORM_ADMIN, Role.OPERATOR}))


class Wanted:
    """What is wanted, as a test sets it."""

    def __init__(self, *things: Account | Qos) -> None:
        self.state = SchedulerState()
        self.set(*things)

    def set(self, *things: Account | Qos) -> None:
        self.state = SchedulerState(
            tuple(thing for thing in things if isinstance(thing, Account)),
            tuple(thing for thing in things if isinstance(thing, Qos)),
        )

    async def __call__(self, _tx) -> SchedulerState:
        return self.state


@pytest.fixture
def scheduler():
    return TableScheduler()


@pytest.fixture
def wanted():
    return Wanted(LAB, TRAINING)


@pytest.fixture
def loop(plane, scheduler, wanted):
    return SchedulerLoop(plane.database, scheduler, wanted)


async def events(plane, name):
    async with plane.database.transaction() as tx:
        query = select(AuditEvent.details).where(AuditEvent.event == name).order_by(AuditEvent.seq)
        return (await tx.session.scalars(query)).all()


async def seen(plane):
    async with plane.database.transaction() as tx:
        return await store.find_seen(tx)


async def ask(plane, over):
    """Ask as the service does, for drift that is named."""
    async with plane.database.transaction() as tx:
        row = await service.ask_to_apply(tx, SYSTEM_ADMIN, takes_over=False)
        row.over = over
        return row.id


SYSTEM_ADMIN = ADMIN


async def test_what_is_wanted_is_made_once_and_recorded(plane, loop, scheduler):
    await loop.step()
    await loop.step()

    assert set(scheduler.things.values()) == {LAB, TRAINING}
    [changed] = await events(plane, "scheduler.changed")
    assert [change.partition(":")[0] for change in changed["changes"]] == ["add account lab", "add qos training"]


async def test_what_another_hand_changed_stays_and_is_told_once_with_who_did_it(plane, loop, scheduler):
    await loop.step()
    await loop.step()
    scheduler.change("qos", "training", priority=5)
    scheduler.hands.append(Hand(plane.clock.now(), "root", "Modify QOS (name='training') priority=5"))

    for _time in range(3):
        await loop.step()

    assert scheduler.things[Kind.QOS, "training"] == Qos("training", 5)
    [drifted] = await events(plane, "scheduler.drifted")
    assert drifted["what"] == "was changed: priority 200 -> 5"
    assert drifted["by"][0].startswith("root at ")


async def test_drift_that_somebody_asks_to_end_is_ended_and_other_drift_is_not(plane, loop, scheduler):
    await loop.step()
    await loop.step()
    scheduler.change("qos", "training", priority=5)
    scheduler.change("account", "lab", weight=9)
    ask_id = await ask(plane, ["qos training"])

    await loop.step()

    assert scheduler.things[Kind.QOS, "training"] == TRAINING
    assert scheduler.things[Kind.ACCOUNT, "lab"] == Account("lab", "", gpus=(("h100", 2),), weight=9)
    async with plane.database.transaction() as tx:
        done = await store.find_ask(tx, ask_id)
    assert done is not None
    assert done.done_at is not None
    assert done.changes == ["change qos training: priority 5 -> 200"]


async def test_what_the_scheduler_loses_right_after_it_took_it_is_made_again(plane, loop, scheduler):
    scheduler.loses = {(Kind.QOS, "training")}
    await loop.step()
    scheduler.loses = set()

    await loop.step()

    assert set(scheduler.things.values()) == {LAB, TRAINING}
    assert await events(plane, "scheduler.drifted") == []


async def test_what_is_no_longer_wanted_goes_and_what_others_made_stays(loop, scheduler, wanted):
    scheduler.things[Kind.ACCOUNT, "marked"] = Account("marked", "")
    scheduler.foreign = ("account theirs: of physics, below root",)
    await loop.step()
    await loop.step()
    wanted.set(TRAINING)

    await loop.step()

    assert {name for _kind, name in scheduler.things} == {"training", "marked"}


async def test_what_the_scheduler_does_not_take_is_told_once_and_tried_again(plane, loop, scheduler):
    scheduler.refuses = {(Kind.ACCOUNT, "lab")}
    for _time in range(3):
        await loop.step()
    failures = list((await seen(plane)).failures)
    scheduler.refuses = set()

    await loop.step()

    assert failures == ["account lab: no"]
    assert len(await events(plane, "scheduler.failed")) == 1
    assert scheduler.things[Kind.ACCOUNT, "lab"] == LAB
    assert (await seen(plane)).failures == []


async def test_a_scheduler_that_is_away_is_said_so_and_its_state_is_kept(plane, loop, scheduler):
    await loop.step()
    scheduler.away = True

    with pytest.raises(Unavailable):
        await loop.step()

    row = await seen(plane)
    assert row.error == "the scheduler is away"
    assert store.state_of(row).accounts == (LAB,)


async def test_a_control_plane_that_comes_back_from_an_older_backup_overwrites_nothing(plane, loop, scheduler, wanted):
    await loop.step()
    await loop.step()
    newer = TableScheduler(dict(scheduler.things))
    newer.change("account", "lab", gpus=(("h100", 8),))

    await SchedulerLoop(plane.database, newer, wanted).step()

    assert newer.things[Kind.ACCOUNT, "lab"] == Account("lab", "", gpus=(("h100", 8),))


async def test_an_ask_that_came_while_a_step_was_under_way_waits_for_the_next(plane, loop, scheduler):
    await loop.step()
    await loop.step()
    scheduler.change("qos", "training", priority=5)
    late: list[str] = []
    list_hands = scheduler.list_hands

    async def ask_meanwhile(since):
        late.append(await ask(plane, ["qos training"]))
        scheduler.list_hands = list_hands
        return await list_hands(since)

    scheduler.list_hands = ask_meanwhile
    await loop.step()
    async with plane.database.transaction() as tx:
        waiting = await store.find_ask(tx, late[0])
    assert waiting is not None
    assert waiting.done_at is None

    await loop.step()

    assert scheduler.things[Kind.QOS, "training"] == TRAINING


async def test_times_of_the_record_are_those_of_the_control_plane(plane, loop):
    plane.clock.move(3600)
    await loop.step()

    read_at = (await seen(plane)).seen_at
    assert read_at is not None
    assert abs(read_at - plane.clock.now()) < timedelta(minutes=1)
