"""One look for many: however many ask and however often, the thing looked at is asked at most once a period."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from controlplane.kit.errors import Unavailable

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Look(Generic[Seen]):
    """What was seen, and when the look began: what was done before that is in it."""

    seen: Seen
    began_s: float


class SharedLook(Generic[Seen]):
    """Callers that come while a look is under way wait for it; a failed one counts like any other."""

    def __init__(
        self, take: Callable[[], Awaitable[Seen]], *, clock: Callable[[], float], period_s: float = 1.0
    ) -> None:
        self._take = take
        self._clock = clock
        self._period_s = period_s
        self._task: asyncio.Task[Look[Seen]] | None = None
        self._ended_s = 0.0

    async def get(self) -> Look[Seen]:
        """Return the newest look, which is at most a period old. Raises what the look raised."""
        if self._task is None or (self._task.done() and self._clock() - self._ended_s >= self._period_s):
            self._task = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._task)

    async def _look(self) -> Look[Seen]:
        began_s = self._clock()
        try:
            return Look(await self._take(), began_s)
        except Unavailable as error:  # told again by each caller: one exception grows a traceback with every raise
            raise Unavailable(error.detail, remedy=error.remedy, code=error.code, reasons=error.reasons) from None
        finally:
            self._ended_s = self._clock()
