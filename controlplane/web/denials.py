"""Denials of callers whom nobody knows: the first of a source in a minute is an event, the rest of it one count."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER
from controlplane.kit.source import group
from controlplane.kit.tx import Database

SPAN = timedelta(minutes=1)
MOST_SOURCES = 256
ELSEWHERE = "further sources"


@dataclass
class Tally:
    """What one source was refused since `began_at`, after the event that told of the first."""

    source: str
    began_at: datetime
    again: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.again.total()


class DenialCounter:
    """Bounded in memory and in events: however many ask, a minute costs at most two events a source, 256 sources."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}

    def note(self, source: str, code: str, now: datetime) -> bool:
        """Count a denial; True if it is to be recorded itself."""
        source = self._place(group(source))
        tally = self._tallies.get(source)
        if tally is not None:
            tally.again[code] += 1
            return False
        self._tallies[source] = Tally(source, now)
        return True

    def settle(self, now: datetime | None = None) -> list[Tally]:
        """Take out the tallies whose minute is over (all, without `now`) and return those that counted something."""
        over = [t for t in self._tallies.values() if now is None or not t.began_at <= now < t.began_at + SPAN]
        for tally in over:
            del self._tallies[tally.source]
        return [tally for tally in over if tally.count]

    def _place(self, source: str) -> str:
        return source if source in self._tallies or len(self._tallies) < MOST_SOURCES else ELSEWHERE


async def record_counts(database: Database, tallies: list[Tally]) -> None:
    """Write one event for each source that went on asking."""
    if not tallies:
        return
    async with database.transaction() as tx:
        for tally in tallies:
            await audit.record(
                tx,
                NEWCOMER,
                "request.denials_counted",
                tally.source,
                count=tally.count,
                codes=dict(tally.again),
                since=tally.began_at.isoformat(),
            )
