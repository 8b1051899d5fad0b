"""Which requests were made before: told by what they ask, not by what the client says."""

from collections.abc import Callable
from hashlib import sha256

from controlplane.gateway.request import Request
from controlplane.gateway.shared_table import SharedTable

RETRY_S = 600.0  # the same prompt of the same step after this is a new one


class Retries:
    """Shared by the workers of a node. `wall_s` is seconds since 1970."""

    def __init__(self, table: SharedTable, wall_s: Callable[[], float]) -> None:
        self._table = table
        self._wall_s = wall_s

    def digest_of(self, request: Request) -> int:
        """Return what tells the same request again."""
        work = request.work
        digest = sha256()  # twice as fast as blake2b on processors of the last ten years
        step = (request.grant.key_id, work.workflow, work.run, work.step, request.ask.model)
        digest.update("\0".join(step).encode())
        for part in request.ask.prompt:
            digest.update(b"\0%d\0" % len(part))
            digest.update(part)
        return int.from_bytes(digest.digest()[:8], "little")

    def has_seen(self, digest: int) -> bool:
        found = self._table.get(digest)
        return found is not None and self._wall_s() - found[1] < RETRY_S

    def note(self, digest: int) -> None:
        self._table.put(digest, 1, self._wall_s())
