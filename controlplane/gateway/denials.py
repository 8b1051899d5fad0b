"""Refusals of known keys, for the record: the first of a kind at once, then a count a minute. Strangers leave none."""

from dataclasses import dataclass

from controlplane.gateway.directory import Directory, Grant
from controlplane.gateway.errors import KeyNotForThis, ModelNotFound, NotHere, Refusal, WrongKey
from controlplane.gateway.records import Denial
from controlplane.gateway.spool import Journal

EVERY_S = 60.0
MOST_KINDS = 10_000  # of keys and causes at once; it bounds what is remembered, and more are written one by one
_DENIALS = (KeyNotForThis, ModelNotFound, NotHere, WrongKey)


@dataclass(slots=True)
class _Kind:
    """`at_s` is when the last line was written, `held` how many came since, `newest` what the last of them was."""

    at_s: float
    held: int = 0
    newest: Denial | None = None


class Denials:
    """Counts by secret and cause."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def note(
        self, refusal: Refusal, grant: Grant | None, directory: Directory, *, request_id: bytes, source: str,
        at_us: int, now_s: float,
    ) -> None:  # fmt: skip
        """Write down that a known key was refused, if this is a refusal of a key at all."""
        if grant is None or not isinstance(refusal, _DENIALS):
            return
        denial = Denial(
            at_us=at_us,
            code=refusal.code,
            key=grant.key_id,
            policy=directory.policy_sha256,
            project=grant.project,
            request=request_id.decode(),
            secret=grant.secret_id,
            source=source,
            times=1,
        )
        kind = self._kinds.get((grant.secret_id, refusal.code))
        if kind is not None and now_s - kind.at_s < EVERY_S:
            kind.held, kind.newest = kind.held + 1, denial
            return
        if kind is not None:
            denial.times += kind.held
        if kind is not None or len(self._kinds) < MOST_KINDS:
            self._kinds[grant.secret_id, refusal.code] = _Kind(now_s)
        self._journal.note(denial)

    def settle(self, *, before_s: float) -> None:
        """Write the counts of kinds whose last line is older, and forget those kinds."""
        for name, kind in [(name, kind) for name, kind in self._kinds.items() if kind.at_s <= before_s]:
            del self._kinds[name]
            if kind.newest is not None:
                kind.newest.times = kind.held
                self._journal.note(kind.newest)
