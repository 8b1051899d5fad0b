"""What the runner must know of one kind of inference server."""

from pathlib import Path
from typing import Protocol

import httpx

from controlplane.contracts.runs import RunSpec


class Adapter(Protocol):
    def command(self, spec: RunSpec, socket: Path, *, cpus: int) -> tuple[str, ...]:
        """Return the command of a server that listens on the unix socket and nowhere else."""
        ...

    async def is_up(self, server: httpx.AsyncClient) -> bool:
        """Say whether the server accepts requests yet."""
        ...

    async def prove(self, server: httpx.AsyncClient, spec: RunSpec) -> str:
        """Have the model work once; return what is wrong, or "" when it generated something."""
        ...
