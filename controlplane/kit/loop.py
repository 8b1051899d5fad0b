"""A background loop that outlives its own failures."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()


async def run_every(name: str, period_s: float, step: Callable[[], Awaitable[None]]) -> None:
    """Call `step` for ever, `period_s` after the last one ended; a failed step is logged and tried again."""
    failures = 0
    while True:
        try:
            await step()
            failures = 0
        except Exception as error:  # noqa: BLE001 - the outermost loop of a process: record and go on
            failures += 1
            log.warning("loop.failed", loop=name, error=f"{type(error).__name__}: {error}", failures=failures)
        await asyncio.sleep(period_s if not failures else min(period_s * 2 ** min(failures, 8), period_s + 5))
