"""Whether shipped lines are the next ones of their spool."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError

from controlplane.contracts.spool import AnyLine, Intent, Outcome
from controlplane.domains.keys.types import Use
from controlplane.domains.metering.types import (
    EPOCH,
    Part,
    Place,
    Reach,
    Requests,
    SpoolBroken,
    SpoolGap,
    UsageOf,
    from_us,
)
from controlplane.kit.canonical import canonical_json

REQUESTS_KEPT = timedelta(days=90)
HOURS_KEPT = timedelta(days=400)  # thirteen months
DAY = timedelta(days=1)
OTHER = "(other)"  # no name of a client's: those have no parentheses
# Pairs of workflow and agent that a project or team has by name in an hour, and in a day. Clients write them into
# headers, and each is a row that is kept for 400 days, or for ever: no application has so many at work at once, and of
# one that invents them a year of days is some 0.3 million rows for each of its keys.
MOST_NAMES = 200
Slot: TypeAlias = tuple[str, datetime, str]  # span, where it begins, share
Names: TypeAlias = tuple[str, str]  # workflow and agent
FAILED = frozenset({"failed", "unknown"})
_LINE: TypeAdapter[AnyLine] = TypeAdapter(AnyLine)


def take(place: Place, first: int, lines: Sequence[str]) -> tuple[Place, list[AnyLine]]:
    """Return what of the lines is new, read and proved, and the place after it.

    Raises SpoolGap when lines are missing before these, SpoolBroken when one is not what the chain says.
    """
    if first > place.next_seq:
        raise SpoolGap(
            f"line {place.next_seq} is wanted and {first} came", remedy="ask where to begin, and ship from there"
        )
    fresh = []
    for text in lines[place.next_seq - first :]:
        line = _read(text, place)
        if (line.seq, line.prev) != (place.next_seq, place.last_sha256):
            raise SpoolBroken(f"line {line.seq} does not follow line {place.next_seq - 1}", remedy=_LOOK)
        place = Place(place.next_seq + 1, sha256(text.encode()).hexdigest())
        fresh.append(line)
    return place, fresh


def uses(lines: Sequence[AnyLine]) -> list[Use]:
    """Return the newest use of every secret."""
    newest: dict[str, Use] = {}
    for line in lines:
        if isinstance(line, Intent):
            at = from_us(line.at_us)
            if line.secret not in newest or newest[line.secret].at < at:
                newest[line.secret] = Use(line.secret, at)
    return [newest[secret] for secret in sorted(newest)]


def amounts_spent(lines: Sequence[AnyLine]) -> dict[str, int]:
    """Return what these lines spent of each account of a budget."""
    sums: Counter[str] = Counter()
    for line in lines:
        if isinstance(line, Outcome):
            for account, amount in line.spent:
                sums[account] += amount
    return dict(sums)


@dataclass(frozen=True, order=True)
class Cell:
    """Where a request is added up: one hour or day, one key, and what it was for."""

    span: str
    starts_at: datetime
    share: str
    workflow: str
    agent: str
    key: str
    endpoint: str
    model: str
    zone: str

    @property
    def slot(self) -> Slot:
        return self.span, self.starts_at, self.share

    @property
    def names(self) -> Names:
        return self.workflow, self.agent


def add_up(outcomes: Iterable[Outcome]) -> dict[Cell, Requests]:
    """Return what outcomes add to their hours and days, in one order for everybody: two at once cannot deadlock."""
    found: dict[Cell, Requests] = {}
    for outcome in outcomes:
        for cell in _cells(outcome):
            found[cell] = found.get(cell, Requests()) + _counted(outcome)
    return dict(sorted(found.items()))


def wanted_names(cells: Iterable[Cell]) -> dict[Slot, set[Names]]:
    """Return what clients call what they do, by where it is added up; slots in one order for everybody."""
    found: dict[Slot, set[Names]] = {}
    for cell in cells:
        found.setdefault(cell.slot, set()).add(cell.names)
    return dict(sorted(found.items()))


def admit(known: Collection[Names], wanted: Iterable[Names], *, most: int = MOST_NAMES) -> dict[Names, Names]:
    """Return under which names to add up: first come, first served, and the rest under "(other)".

    A workflow or agent that is known keeps its name when it comes with a new partner, and so does who says nothing; so
    there are never more than four times `most` and four.
    """
    own = {names for names in known if OTHER not in names}
    found = {}
    for names in sorted(wanted):
        if names not in own and len(own) < most:
            own.add(names)
        found[names] = names if names in own else _folded(names, own)
    return found


def _folded(names: Names, own: Collection[Names]) -> Names:
    workflow, agent = names
    if not workflow or any(workflow == other for other, _ in own):
        return workflow, OTHER if agent else agent
    return OTHER, agent if not agent or any(agent == other for _, other in own) else OTHER


def rename(sums: Mapping[Cell, Requests], names: Mapping[Slot, Mapping[Names, Names]]) -> dict[Cell, Requests]:
    """Return the same sums under other names, in the one order of `add_up`."""
    found: dict[Cell, Requests] = {}
    for cell, requests in sums.items():
        workflow, agent = names.get(cell.slot, {}).get(cell.names, cell.names)
        renamed = replace(cell, workflow=workflow, agent=agent)
        found[renamed] = found.get(renamed, Requests()) + requests
    return dict(sorted(found.items()))


def oldest_hour(now: datetime) -> datetime:
    """Return from when on hours are kept: whole days of them."""
    return _day_of(now - HOURS_KEPT)


def reach(of: UsageOf, *, since: datetime, until: datetime, now: datetime) -> Reach:
    """Return what is counted of a time that was asked for: whole days where hours are gone, of runs what is left."""
    until = max(min(until, now + DAY), EPOCH)  # there is nothing outside, and a day may not be computed there
    since = min(max(since, EPOCH), until)
    if of is UsageOf.RUN:
        kept = now - REQUESTS_KEPT
        return Reach(min(max(since, kept), until), until, kept)
    known_since = oldest_hour(now) + DAY  # one that is swept while this is asked is counted by its day already
    first = _day_of(since) if since < known_since else since
    last = until if until >= known_since or until == _day_of(until) else _day_of(until) + DAY
    return Reach(first, last, known_since)


def parts_of(asked: Reach, of: UsageOf) -> tuple[Part, ...]:
    """Return the sums that hold it, each request in one: days where they are asked for whole, for they are fewer."""
    if of is not UsageOf.HOUR and asked.since == _day_of(asked.since) and asked.until == _day_of(asked.until):
        return (Part("day", asked.since, asked.until),)
    middle = min(max(asked.since, asked.known_since), asked.until)
    both = (Part("day", asked.since, middle), Part("hour", middle, asked.until))
    return tuple(part for part in both if part.since < part.until)


def _day_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _cells(outcome: Outcome) -> tuple[Cell, Cell]:
    hour = from_us(outcome.at_us).replace(minute=0, second=0, microsecond=0)
    whose = (
        outcome.project, outcome.workflow, outcome.agent, outcome.key, outcome.endpoint, outcome.model, outcome.zone,
    )  # fmt: skip
    return Cell("hour", hour, *whose), Cell("day", hour.replace(hour=0), *whose)


def _counted(outcome: Outcome) -> Requests:
    return Requests(
        calls=1,
        failures=outcome.result in FAILED,
        untold=outcome.estimated or (outcome.tokens_in is None and outcome.result != "failed"),
        retries=outcome.retries,
        tokens_in=outcome.tokens_in or 0,
        tokens_out=outcome.tokens_out or 0,
        tokens_cached=outcome.tokens_cached or 0,
        tokens_reasoning=outcome.tokens_reasoning or 0,
        gpu_us=outcome.gpu_us,
        queue_us=outcome.queue_us,
        duration_us=outcome.duration_us,
        ttft_us=outcome.ttft_us or 0,
        ttft_calls=outcome.ttft_us is not None,
    )


def _read(text: str, place: Place) -> AnyLine:
    try:
        line = _LINE.validate_json(text)
    except ValidationError as error:
        detail = f"line {place.next_seq} cannot be read: {error.error_count()} faults"
        raise SpoolBroken(detail, remedy=_LOOK) from None
    if canonical_json(line.model_dump(mode="json", exclude_defaults=True)) != text.encode():
        raise SpoolBroken(f"line {place.next_seq} is not in its canonical form", remedy=_LOOK)
    return line


_LOOK = "keep the gateway's spool as evidence and compare it with the audit log"
