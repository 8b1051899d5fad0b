from collections.abc import Iterable, Sequence

from pydantic import TypeAdapter
from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.scheduler.tables import ApplyAsk, LeftThing, SeenState
from controlplane.domains.scheduler.types import Key, Kind, Thing, Things
from controlplane.engines.scheduler import Account, Hand, Qos, Reservation, SchedulerState
from controlplane.kit.tx import Tx

ONLY = 1
_STATE = TypeAdapter(SchedulerState)
_HANDS = TypeAdapter(tuple[Hand, ...])
_THINGS: dict[Kind, TypeAdapter[Thing]] = {
    Kind.ACCOUNT: TypeAdapter(Account),
    Kind.QOS: TypeAdapter(Qos),
    Kind.RESERVATION: TypeAdapter(Reservation),
}


async def list_left(tx: Tx) -> dict[Key, Thing]:
    rows = (await tx.session.scalars(select(LeftThing))).all()
    return {(Kind(row.kind), row.name): _THINGS[Kind(row.kind)].validate_python(row.thing) for row in rows}


async def mark_left(tx: Tx, things: Things) -> None:
    """Write down how things were left."""
    for (kind, name), thing in things.items():
        told = {"thing": _THINGS[kind].dump_python(thing, mode="json"), "left_at": tx.now}
        upsert = insert(LeftThing).values(kind=kind, name=name, **told)
        await tx.session.execute(upsert.on_conflict_do_update(index_elements=["kind", "name"], set_=told))


async def forget_left(tx: Tx, keys: Iterable[Key]) -> None:
    gone = [(kind.value, name) for kind, name in keys]
    if gone:
        await tx.session.execute(delete(LeftThing).where(tuple_(LeftThing.kind, LeftThing.name).in_(gone)))


async def find_seen(tx: Tx) -> SeenState | None:
    return await tx.session.get(SeenState, ONLY)


async def get_seen(tx: Tx) -> SeenState:
    """Return the one row, locked; it is made the first time."""
    nothing = {"state": _STATE.dump_python(SchedulerState(), mode="json"), "hands": [], "error": "", "failures": []}
    await tx.session.execute(insert(SeenState).values(id=ONLY, **nothing).on_conflict_do_nothing())
    return (await tx.session.scalars(select(SeenState).where(SeenState.id == ONLY).with_for_update())).one()


def mark_seen(tx: Tx, row: SeenState, state: SchedulerState, hands: Sequence[Hand]) -> None:
    row.state, row.hands = _STATE.dump_python(state, mode="json"), _HANDS.dump_python(tuple(hands), mode="json")
    row.seen_at, row.error = tx.now, ""


def state_of(row: SeenState) -> SchedulerState:
    return _STATE.validate_python(row.state)


def hands_of(row: SeenState) -> tuple[Hand, ...]:
    return _HANDS.validate_python(row.hands)


async def list_open_asks(tx: Tx) -> Sequence[ApplyAsk]:
    query = select(ApplyAsk).where(ApplyAsk.done_at.is_(None)).order_by(ApplyAsk.asked_at).with_for_update()
    return (await tx.session.scalars(query)).all()


async def find_ask(tx: Tx, ask_id: str) -> ApplyAsk | None:
    return await tx.session.get(ApplyAsk, ask_id)


def add(tx: Tx, row: ApplyAsk) -> None:
    tx.session.add(row)
