"""The inference server as a child: started, watched, proven, killed."""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from controlplane.contracts.runs import RunSpec
from controlplane.runner.adapter import Adapter
from controlplane.runner.surroundings import FAILED, RunOver

LAST_LINES = 12
LONGEST_LINE = 400
FIRST_TOKEN_S = 120.0


class InferenceServer:
    """One child process behind a unix socket that only this user can reach."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self.socket = socket
        self._process = process
        self._log: deque[str] = deque(maxlen=LAST_LINES)
        self._reading = asyncio.create_task(self._read_log())

    @classmethod
    async def start(cls, command: tuple[str, ...], socket: Path, environment: Mapping[str, str]) -> Self:
        """Start the command so that it dies with this process, however this process dies."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane.runner.leash", str(os.getpid()), *command),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return cls(process, socket)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        await self._process.wait()
        await self._reading

    def kill(self) -> None:
        """Kill it now; there is nothing to save."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def died(self) -> str:
        """Wait until it ends by itself; return why, as far as it said."""
        status = await self._process.wait()
        await self._reading
        return "\n".join([f"the inference server ended with {_ending(status)}", *self._log])

    async def prove(self, adapter: Adapter, spec: RunSpec) -> None:
        """Wait until the model has generated a token; raises RunOver when it cannot."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://run", timeout=FIRST_TOKEN_S) as client:
            while not await adapter.is_up(client):  # noqa: ASYNC110 - asks another process
                await asyncio.sleep(0.05)
            if problem := await adapter.prove(client, spec):
                raise RunOver(FAILED, problem)

    async def _read_log(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - asked for above; narrows the type
        while chunk := await self._process.stdout.read(65536):
            lines = chunk.decode(errors="replace").splitlines()
            self._log.extend(line[:LONGEST_LINE] for line in lines if line.strip())


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
