"""A background loop that outlives its own failures."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

STEP_END_S = 10.0  # a step that is under way at the end gets this long


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def run_every(name: str, period_s: float, step: Callable[[], Awaitable[None]], *, rests: bool = False) -> None:
    """Call `step` for ever, `period_s` after the last one ended; a failed step is logged and tried again.

    A loop that `rests` pauses for at least as long as its step took: it never takes more than half a core.
    """
    failures = 0
    while True:
        began_s = now_s()
        try:
            await _finish(step)
            failures = 0
        except Exception as error:  # noqa: BLE001 - the outermost loop of a process: record and go on
            failures += 1
            log.warning("loop.failed", loop=name, error=f"{type(error).__name__}: {error}", failures=failures)
        pause_s = period_s if not failures else min(period_s * 2 ** min(failures, 8), period_s + 5)
        await asyncio.sleep(max(pause_s, now_s() - began_s) if rests else pause_s)


async def _finish(step: Callable[[], Awaitable[None]]) -> None:
    """Run a step to its end even when the loop is told to stop: half a transaction helps nobody."""
    task = asyncio.ensure_future(step())
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=STEP_END_S)
        task.cancel()
        raise
