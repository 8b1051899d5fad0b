"""Journals of a gateway under test."""

from dataclasses import dataclass, field

from controlplane.gateway.records import Denial, Intent, Outcome
from controlplane.gateway.spool import Waiter


@dataclass
class MemoryJournal:
    """Keeps every line in memory, and can be told to fail or to wait."""

    intents: list[Intent] = field(default_factory=list)
    notes: list[Outcome | Denial] = field(default_factory=list)
    waiting: list[Waiter] = field(default_factory=list)
    fails: bool = False
    holds: bool = False

    def intend(self, intent: Intent, waiter: Waiter) -> None:
        if self.fails:
            waiter.not_recorded()
            return
        self.intents.append(intent)
        if self.holds:
            self.waiting.append(waiter)
        else:
            waiter.recorded()

    def note(self, record: Outcome | Denial) -> None:
        self.notes.append(record)

    @property
    def outcomes(self) -> list[Outcome]:
        return [record for record in self.notes if isinstance(record, Outcome)]
