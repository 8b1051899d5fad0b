"""How every process starts and ends. No database in here: the data plane starts so too."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

from controlplane.kit.errors import RedoubtError
from controlplane.kit.log import configure_logging


def config_path(process: str) -> Path:
    """Read `--config FILE`; anything else is a usage error."""
    match sys.argv[1:]:
        case ["--config", path]:
            return Path(path)
        case _:
            sys.stderr.write(f"usage: python -m controlplane.main.{process} --config FILE\n")
            raise SystemExit(2)


def run_process(name: str, work: Coroutine[None, None, None]) -> None:
    """Run until done or SIGTERM; an error that names its cause is one line and its exit code."""
    configure_logging(name)
    try:
        asyncio.run(_until_told(work))
    except RedoubtError as error:
        sys.stderr.write(f"redoubt-{name}: {error.detail}\n  next: {error.remedy}\n")
        raise SystemExit(error.exit_code) from None


async def _until_told(work: Coroutine[None, None, None]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
