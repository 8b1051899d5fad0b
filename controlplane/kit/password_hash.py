"""argon2id (RFC 9106), with a bound on how many run at once: each takes 64 MiB, and a flood must not take it all."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from controlplane.kit.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class HashCost:
    """RFC 9106 parameters; the defaults take about 140 ms on a server core."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 1


class BoundedHasher:
    """Hashes and checks passwords in threads: `at_once` at a time, `waiting` more in the queue, the rest refused."""

    def __init__(self, cost: HashCost, *, at_once: int = 2, waiting: int = 8) -> None:
        self._argon2 = PasswordHasher(
            time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes, hash_len=32, salt_len=16
        )
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._most = at_once + waiting
        self._taken = 0
        self._lock = threading.Lock()
        # what an unknown name is checked against, so that it takes as long as a known one
        self._nobody = self._argon2.hash("nobody has this password")

    async def hash(self, password: str) -> str:
        """Return the PHC string of a password; raises Unavailable when too many wait."""
        return await self._in_thread(lambda: self._argon2.hash(password))

    async def verify(self, digest: str | None, password: str) -> bool:
        """Say whether a password fits; without a digest the answer is no, and comes as late."""
        fits = await self._in_thread(lambda: self._fits(digest or self._nobody, password))
        return fits and digest is not None

    def is_outdated(self, digest: str) -> bool:
        """Say whether a digest was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(digest)

    def _fits(self, digest: str, password: str) -> bool:
        try:
            return self._argon2.verify(digest, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._taken >= self._most:
                raise Unavailable("too many sign-ins at once", remedy="try again in a few seconds", code="busy")
            self._taken += 1
        future = self._threads.submit(work)
        future.add_done_callback(self._give_back)  # also when the caller went away: the thread still works
        return await asyncio.wrap_future(future)

    def _give_back(self, done: Future[T]) -> None:
        del done
        with self._lock:
            self._taken -= 1
