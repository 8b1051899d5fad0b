"""Whether shipped lines are the next ones of their spool."""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from pydantic import TypeAdapter, ValidationError

from controlplane.contracts.spool import AnyLine, Intent, Outcome
from controlplane.domains.keys.types import Use
from controlplane.domains.metering.types import Place, SpoolBroken, SpoolGap, from_us
from controlplane.kit.canonical import canonical_json

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
