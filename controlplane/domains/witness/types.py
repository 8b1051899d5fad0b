"""What a node as a witness last said."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Standing:
    """`at` None: it never signed. `refusal` "": it does not refuse."""

    node: str
    size: int
    at: datetime | None
    refusal: str
    refused_at: datetime | None = None


@dataclass(frozen=True)
class Quorum:
    """Which of the declared nodes are fresh witnesses, and what each last said."""

    standings: tuple[Standing, ...]
    fresh: frozenset[str]
    is_due: bool

    @property
    def needed(self) -> int:
        return len(self.standings) // 2 + 1

    @property
    def is_short(self) -> bool:
        """Say whether fewer than a majority signed what they had minutes to sign."""
        return self.is_due and bool(self.standings) and len(self.fresh) < self.needed
