"""A gateway that keeps files and runs batches, in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai

from controlplane.contracts.snapshot import SnapshotKey, SnapshotShare
from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.kit.clock import SystemClock
from tests.gateway.stage import KEY, Gateway, ScriptedReplica, Stage, key, snapshot

NODE_KEY = b"k" * 32
ZONE = "eu-north"
KEEPS = SnapshotShare(name="blue", organisation="site", project="blue", keeps_content=True)


async def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    """Look until it holds."""
    for _ in range(int(within_s / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"did not come to hold within {within_s} s")


class Office:
    """`gateway` with an archive in `folder`; the project of `KEY` keeps content."""

    def __init__(self, gateway: Gateway, folder: Path, replicas: tuple[ScriptedReplica, ...]) -> None:
        self.gateway = gateway
        self.folder = folder
        self._replicas = replicas

    def allow(self, *, keys: tuple[SnapshotKey, ...] = (), shares: tuple[SnapshotShare, ...] = (KEEPS,)) -> None:
        """Put a snapshot in force."""
        self.gateway.version += 1
        new = snapshot(self.gateway.version, tuple(r.spec for r in self._replicas), keys or (key(KEY),))
        self.gateway.hub.adopt(new.model_copy(update={"shares": shares}))

    @asynccontextmanager
    async def openai(self, secret: str = KEY, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:  # the client's own
        url = f"http://127.0.0.1:{self.gateway.port}/v1"
        async with openai.DefaultAsyncHttpxClient(trust_env=False) as http:
            yield openai.AsyncOpenAI(base_url=url, api_key=secret, http_client=http, max_retries=0, **options)

    def kept(self, suffix: str) -> list[Path]:
        return sorted(self.folder.rglob(f"*.{suffix}"))

    def is_told(self, secret: bytes) -> bool:
        """Say whether the disk holds these bytes anywhere, in a content or a name."""
        paths = list(self.folder.rglob("*"))
        return any(secret in str(p).encode() or (p.is_file() and secret in p.read_bytes()) for p in paths)


async def open_office(stage: Stage, folder: Path, *replicas: ScriptedReplica, **limits: Any) -> Office:
    """Return an office over these replicas; `limits` are BatchLimits by name."""
    gateway = await stage.gateway(*replicas)
    roomy = BatchLimits(**{"free_bytes": 0, **limits})
    gateway.hub.archive = Archive(folder, NODE_KEY, SystemClock(), zone=ZONE, limits=roomy)
    office = Office(gateway, folder, replicas)
    office.allow()
    return office
