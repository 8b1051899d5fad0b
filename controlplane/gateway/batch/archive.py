"""What one gateway process has for files and batches: two stores, threads for the disk, and the zone it stands in."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from controlplane.gateway.batch.batch_store import BatchStore
from controlplane.gateway.batch.file_store import FileStore
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.batch.refusals import KeepsNothing
from controlplane.gateway.batch.sealed import Sealing
from controlplane.gateway.directory import Directory, Grant
from controlplane.kit.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 4


class Archive:
    """`root` is shared by the workers of a node, `node_key` is 256 bits; `zone` "" is a site that has one alone."""

    def __init__(self, root: Path, node_key: bytes, clock: Clock, *, zone: str, limits: BatchLimits) -> None:
        self.limits = limits
        self.zone = zone
        self.uploads = 0
        self.files = FileStore(root, Sealing(node_key), limits)
        self.batches = BatchStore(self.files)
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "files")

    def now_s(self) -> int:
        """Return seconds since 1970."""
        return int(self._clock.now().timestamp())

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Let a thread do what blocks; it is over when this returns, also when we are cancelled meanwhile."""
        doing = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await _over(doing)
            raise

    async def open(self, work: Callable[[], T], close: Callable[[T], None]) -> T:
        """Run what opens something; cancelled meanwhile, close it again, for nobody else knows of it."""
        opening = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            await _over(opening)
            if opening.exception() is None:
                await self.run(close, opening.result())
            raise

    def must_keep(self, directory: Directory, grant: Grant) -> None:
        """Raise KeepsNothing unless the project's content may be kept: nothing is unless somebody said so."""
        share = directory.shares.get(grant.project)
        if share is None or not share.keeps_content:
            raise KeepsNothing(
                "content of this project may not be kept",
                remedy=f"operators: redoubt project keep-content {grant.project} yes",
            )

    def close(self) -> None:
        self._threads.shutdown()


async def _over(doing: asyncio.Future[T]) -> None:
    """Wait for a thread's end, however often we are cancelled: an end of input and a lost connection each do it."""
    while not doing.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([doing])
