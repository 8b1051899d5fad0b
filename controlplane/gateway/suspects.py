"""Requests that were with a replica when it was lost: after two losses in all, whoever sends it, no engine gets it."""

from hashlib import blake2b
from typing import Final
from zlib import crc32

from controlplane.gateway.errors import Refusal
from controlplane.gateway.request import Request
from controlplane.gateway.shared_table import SharedTable

MOST_LOSSES: Final = 2
_LASTS_S = 600.0  # a client that tries for longer than this may kill two engines again
_ONE_LOSS_S = 5.0  # what a replica had in its hands when it was lost comes back within this: that is one loss
_ANY_LOST, _ANY_GUILTY = 1, 2  # under these digests: when anything was last lost, and when one was last found guilty


class KillsReplicas(Refusal):
    """Not 5xx: clients send those again by themselves."""

    status = 422
    kind = "request_kills_replicas"

    def __init__(self) -> None:
        super().__init__(
            f"{MOST_LOSSES} replicas were lost while they had this very request",
            remedy=f"change it, or send it again in {_LASTS_S / 60:.0f} minutes; operators: read the replicas' logs",
        )


class Suspects:
    """Without a `table` other workers hear nothing. Times are wall seconds."""

    def __init__(self, table: SharedTable | None = None) -> None:
        self._table = table
        self._own: dict[int, tuple[int, float]] = {}
        self._lost_until_s = 0.0  # later nobody is a suspect
        self._guilty_until_s = 0.0  # later nobody is looked up

    def lost(self, request: Request, replica: str, at_s: float) -> None:
        """A replica was lost that had this request."""
        digest, here = _digest(request), crc32(replica.encode())
        losses, last, last_s = self._losses(digest, at_s)
        if losses and last == here and at_s - last_s < _ONE_LOSS_S:
            return
        self._put(digest, (losses + 1) << 32 | here, at_s)
        self._put(_ANY_LOST, 0, at_s)
        if losses + 1 >= MOST_LOSSES:
            self._put(_ANY_GUILTY, 0, at_s)
        self.sweep()

    def answered(self, request: Request, at_s: float) -> None:
        """A replica survived it: it is no suspect."""
        if at_s < self._lost_until_s:
            digest = _digest(request)
            if self._losses(digest, at_s)[0]:
                self._put(digest, 0, at_s)

    def check(self, request: Request, at_s: float) -> None:
        """Raises KillsReplicas."""
        if at_s < self._guilty_until_s and self._losses(_digest(request), at_s)[0] >= MOST_LOSSES:
            raise KillsReplicas

    def sweep(self) -> None:
        """Learn what the other workers have lost."""
        self._lost_until_s = self._until_s(_ANY_LOST)
        self._guilty_until_s = self._until_s(_ANY_GUILTY)

    def _until_s(self, digest: int) -> float:
        found = self._get(digest)
        return found[1] + _LASTS_S if found is not None else 0.0

    def _losses(self, digest: int, at_s: float) -> tuple[int, int, float]:
        """Return how many, and which replica was last and when."""
        value, last_s = self._get(digest) or (0, 0.0)
        return (value >> 32, value & 0xFFFFFFFF, last_s) if last_s > at_s - _LASTS_S else (0, 0, 0.0)

    def _get(self, digest: int) -> tuple[int, float] | None:
        return self._own.get(digest) if self._table is None else self._table.get(digest)

    def _put(self, digest: int, value: int, at_s: float) -> None:
        if self._table is None:
            self._own[digest] = (value, at_s)
        else:
            self._table.put(digest, value, at_s)


def _digest(request: Request) -> int:
    whose = f"{request.grant.project}\0{request.endpoint.name}".encode()
    return int.from_bytes(blake2b(request.body, digest_size=8, key=blake2b(whose).digest()).digest(), "little")
