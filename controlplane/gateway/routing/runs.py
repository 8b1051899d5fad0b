"""One revision for a whole agent run: what its first request got, all later ones get."""

from typing import Protocol

from controlplane.gateway.shared_table import SharedTable, digest_in

_LASTS_S = 6 * 3600.0  # since its last request
_RENEWED_EVERY_S = 60.0


class Runs(Protocol):
    """`key` names a run at an endpoint, `revision` is a revision's digest."""

    def find(self, key: int, now_s: float) -> int | None:
        """Return what the run began on."""
        ...

    def begin(self, key: int, revision: int, now_s: float) -> int:
        """Return what the run is on: this, unless another request was first."""
        ...


class LocalRuns:
    """For a gateway of one process, without a disk."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def find(self, key: int, now_s: float) -> int | None:  # noqa: ARG002 - ends with the process
        return self._begun.get(key)

    def begin(self, key: int, revision: int, now_s: float) -> int:  # noqa: ARG002 - ends with the process
        return self._begun.setdefault(key, revision)


class SharedRuns:
    """All workers of a node agree, whatever they do at once; it survives restarts. Times are wall seconds."""

    def __init__(self, table: SharedTable) -> None:
        self._table = table

    def find(self, key: int, now_s: float) -> int | None:
        found = self._table.get(key)
        if found is None or found[1] <= now_s - _LASTS_S:
            return None
        if found[1] < now_s - _RENEWED_EVERY_S:
            return self.begin(key, found[0], now_s)
        return found[0]

    def begin(self, key: int, revision: int, now_s: float) -> int:
        return self._table.claim(key, revision, now_s, lasts_s=_LASTS_S)[0]


def run_key(project: str, run: str, endpoint_id: str) -> int:
    return digest_in(project, run, endpoint_id)
