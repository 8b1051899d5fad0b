"""The command of a job as a child: started, read, signalled, waited for."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

LEASH = Path(__file__).with_name("job_leash.py")
READ_BYTES = 32 * 1024
LAST_OUTPUT_S = 2.0  # for what a grandchild still holds open


class Command:
    """One child in a process group of its own, in our session: what ends the session ends it too."""

    def __init__(self, process: asyncio.subprocess.Process, put: Callable[[str, bytes], None]) -> None:
        self._process = process
        self._is_dead = asyncio.Event()
        _when_dead(process.pid, self._is_dead)
        streams = {"out": process.stdout, "err": process.stderr}
        self._reading = [
            asyncio.create_task(_read(name, stream, put)) for name, stream in streams.items() if stream is not None
        ]

    @classmethod
    async def start(
        cls, words: tuple[str, ...], folder: Path, environment: Mapping[str, str], put: Callable[[str, bytes], None]
    ) -> Self:
        """Start it so that it dies with this process, however this process dies."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *words),
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,
        )
        return cls(process, put)

    def signal(self, number: int) -> None:
        """Send a signal to the command alone: a shell around it that knows nothing of the signal must live."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to the command and what it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def ended(self) -> int:
        """Wait for its end and its last words; return its status, 128 and the signal for one that was killed."""
        await self._is_dead.wait()  # asyncio's own wait also waits for pipes that what it started holds open
        self.signal_all(signal.SIGKILL)  # what it left behind holds GPUs
        status = await self._process.wait()
        _done, late = await asyncio.wait(self._reading, timeout=LAST_OUTPUT_S)
        for reading in late:
            reading.cancel()
        return status if status >= 0 else 128 - status


def _when_dead(pid: int, event: asyncio.Event) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:  # dead and reaped already
        event.set()
        return
    loop = asyncio.get_running_loop()

    def mark() -> None:
        loop.remove_reader(handle)
        os.close(handle)
        event.set()

    loop.add_reader(handle, mark)


def number_of(name: str) -> int:
    """Return the number of "USR1"."""
    return int(signal.Signals[f"SIG{name}"])


async def _read(name: str, stream: asyncio.StreamReader, put: Callable[[str, bytes], None]) -> None:
    while data := await stream.read(READ_BYTES):
        put(name, data)
