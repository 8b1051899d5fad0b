"""What of the scheduler's state is ours to change: three states are compared, wanted, as we left it, and as it is."""

from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime
from typing import assert_never

from controlplane.domains.scheduler.types import Drift, Key, Kind, Plan, Thing, Things
from controlplane.engines.scheduler import Account, Hand, Qos, Reservation, SchedulerState

NONE: frozenset[Key] = frozenset()


def compare(
    wanted: SchedulerState,
    left: Things,
    observed: SchedulerState,
    now: datetime,
    *,
    take_over: frozenset[Key] = NONE,
    hands: Iterable[Hand] = (),
) -> Plan:
    """Decide what to change. What another hand changed since we `left` it is drift, unless it is in `take_over`.

    What is there and neither wanted nor known as left by us stays, whatever mark it carries.
    """
    asked, there = things_of(wanted, now), things_of(observed, now)
    target = dict(there)
    changes: list[str] = []
    touched: set[Key] = set()
    drift: list[Drift] = []
    for key in sorted({*asked, *there, *left}):
        want, was, is_now = asked.get(key), left.get(key), there.get(key)
        is_foreign = is_now is None and key in _foreign(observed)
        if _same(want, is_now, now) and not is_foreign:
            continue
        if want is None and (was is None or is_now is None):
            continue  # not ours, or gone as it ought to be
        if key not in take_over and (what := _changed_by_others(want, was, is_now, now, is_foreign=is_foreign)):
            drift.append(Drift(*key, what, who(key, hands)))
            continue
        touched.add(key)
        changes.append(_tell(key, want, is_now))
        if want is None:
            del target[key]
        else:
            target[key] = want
    return Plan(to_state(target), tuple(changes), frozenset(touched), tuple(drift))


def things_of(state: SchedulerState, now: datetime) -> dict[Key, Thing]:
    """Return what a state holds, by kind and name, each in one form; a reservation that is over is none."""
    windows = (window for window in state.reservations if window.ends_at is None or window.ends_at > now)
    things: list[Thing] = [*state.accounts, *state.qos, *windows]
    return {key_of(thing): _settled(thing) for thing in things}


def describe(thing: Thing) -> str:
    """Say what it is, for a table."""
    told = [(f.name, getattr(thing, f.name)) for f in fields(thing) if f.name != "name"]
    return ", ".join(f"{name} {_word(value)}" for name, value in told if value not in ((), "", 0))


def to_state(things: Things) -> SchedulerState:
    found = list(things.values())
    return SchedulerState(
        tuple(thing for thing in found if isinstance(thing, Account)),
        tuple(thing for thing in found if isinstance(thing, Qos)),
        tuple(thing for thing in found if isinstance(thing, Reservation)),
    )


def key_of(thing: Thing) -> Key:
    match thing:
        case Account():
            return Kind.ACCOUNT, thing.name
        case Qos():
            return Kind.QOS, thing.name
        case Reservation():
            return Kind.RESERVATION, thing.name
        case _:
            assert_never(thing)


def _settled(thing: Thing) -> Thing:
    match thing:
        case Account():
            return replace(thing, users=tuple(sorted(thing.users)), gpus=tuple(sorted(thing.gpus)))
        case Qos():
            return replace(thing, preempts=tuple(sorted(thing.preempts)), gpus=tuple(sorted(thing.gpus)))
        case Reservation():
            ends_at = thing.ends_at.replace(microsecond=0) if thing.ends_at else None
            return replace(
                thing,
                starts_at=thing.starts_at.replace(microsecond=0),
                ends_at=ends_at,
                nodes=tuple(sorted(thing.nodes)),
                accounts=tuple(sorted(thing.accounts)),
            )
        case _:
            assert_never(thing)


def _same(one: Thing | None, other: Thing | None, now: datetime) -> bool:
    """Compare; of a reservation that has begun it does not count when, because a scheduler says when it was made."""
    if isinstance(one, Reservation) and isinstance(other, Reservation) and max(one.starts_at, other.starts_at) <= now:
        one = replace(one, starts_at=other.starts_at)
    return one == other


def _changed_by_others(
    want: Thing | None, was: Thing | None, is_now: Thing | None, now: datetime, *, is_foreign: bool
) -> str:
    """Say what another hand did, "" for nothing. What we never left anywhere is ours to make as we want it."""
    if is_foreign:
        return "is there, and Redoubt did not make it"
    if was is None or _same(was, is_now, now):
        return ""
    if is_now is None:
        over = isinstance(was, Reservation) and was.ends_at is not None and was.ends_at <= now
        return "" if over else "was removed"
    return f"was changed: {_differences(was, is_now)}" + ("" if want is not None else "; it is no longer wanted")


def _differences(before: Thing, after: Thing) -> str:
    told = [
        f"{field.name} {_word(getattr(before, field.name))} -> {_word(getattr(after, field.name))}"
        for field in fields(before)
        if field.compare and getattr(before, field.name) != getattr(after, field.name, None)
    ]
    return ", ".join(told)


def _tell(key: Key, want: Thing | None, is_now: Thing | None) -> str:
    kind, name = key
    if want is None:
        return f"remove {kind} {name}"
    if is_now is None:
        return f"add {kind} {name}: {describe(want)}"
    return f"change {kind} {name}: {_differences(is_now, want)}"


def _word(value: object) -> str:
    match value:
        case tuple():
            return " ".join("=".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value) or "none"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case None:
            return "for ever"
        case _:
            return str(value) or "none"


def _foreign(observed: SchedulerState) -> set[tuple[str, str]]:
    """Return kinds and names of what others made; its words begin with them."""
    heads = [words.partition(":")[0].partition(" ") for words in observed.foreign]
    return {(kind, name) for kind, _, name in heads}


def who(key: Key, hands: Iterable[Hand]) -> tuple[str, ...]:
    """Return the changes that name the thing; those of Slurm that name it by a number alone are all that is known."""
    kind, name = key
    word = {Kind.ACCOUNT: "Associations", Kind.QOS: "QOS", Kind.RESERVATION: "Reservation"}[kind]
    listed = list(hands)
    named = [hand for hand in listed if f"'{name}'" in hand.what]
    perhaps = [hand for hand in listed if word in hand.what.partition("(")[0]] if kind is not Kind.QOS else []
    return tuple(
        f"{hand.who} at {hand.at:%Y-%m-%d %H:%M:%S} UTC: {hand.what}"[:300] for hand in (named or perhaps)[-3:]
    )
