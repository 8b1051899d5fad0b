"""A gateway that keeps files and runs batches, in this process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from openai.types import Batch

from controlplane.contracts.snapshot import SnapshotKey, SnapshotShare
from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.leader import Leader
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.kit.clock import SystemClock
from tests.gateway.stage import KEY, Gateway, ScriptedReplica, Stage, key, snapshot

NODE_KEY = b"k" * 32
ZONE = "eu-north"
OpenOffice = Callable[..., Awaitable["Office"]]
KEEPS = SnapshotShare(name="blue", organisation="site", project="blue", keeps_content=True)


async def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    """Look until it holds."""
    for _ in range(int(within_s / 0.02)):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"did not come to hold within {within_s} s")


def a_line(name: str, *, model: str = "chat", url: str = "/v1/chat/completions", **body: Any) -> bytes:
    asked = {"model": model, "messages": [{"role": "user", "content": f"say {name}"}], "max_tokens": 8, **body}
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": asked}).encode() + b"\n"


def counts(batch: Batch) -> tuple[int, int, int]:
    """Return lines in all, answered, failed."""
    told = batch.request_counts
    assert told is not None
    return told.total, told.completed, told.failed


class Office:
    """`gateway` with an archive in `folder`; the project of `KEY` keeps content."""

    def __init__(self, gateway: Gateway, folder: Path, replicas: tuple[ScriptedReplica, ...]) -> None:
        assert gateway.hub.archive is not None
        self.gateway = gateway
        self.folder = folder
        self._replicas = replicas
        self.archive = gateway.hub.archive
        self.leader = Leader(gateway.hub, self.archive)

    def allow(self, *, keys: tuple[SnapshotKey, ...] = (), shares: tuple[SnapshotShare, ...] = (KEEPS,)) -> None:
        """Put a snapshot in force."""
        self.gateway.version += 1
        new = snapshot(self.gateway.version, tuple(r.spec for r in self._replicas), keys or (key(KEY),))
        self.gateway.hub.adopt(new.model_copy(update={"shares": shares}))

    @asynccontextmanager
    async def openai(self, secret: str = KEY, **options: Any) -> AsyncIterator[AsyncOpenAI]:  # the client's own
        url = f"http://127.0.0.1:{self.gateway.port}/v1"
        async with DefaultAsyncHttpxClient(trust_env=False) as http:
            yield AsyncOpenAI(base_url=url, api_key=secret, http_client=http, max_retries=0, **options)

    async def until_over(self, client: AsyncOpenAI, batch_id: str, *, within_s: float = 20.0) -> Batch:
        """Let the leader work until a batch is over."""
        for _ in range(int(within_s / 0.02)):
            await self.leader.step()
            batch = await client.batches.retrieve(batch_id)
            if batch.status in {"completed", "failed", "expired", "cancelled"}:
                return batch
            await asyncio.sleep(0.02)
        raise AssertionError(f"{batch_id} is not over")

    async def until_waiting(self, client: AsyncOpenAI, batch_id: str) -> Batch:
        """Let the leader work until a batch says what it waits for."""
        for _ in range(1000):
            await self.leader.step()
            batch = await client.batches.retrieve(batch_id)
            if batch.model_dump()["waiting"]:
                return batch
            await asyncio.sleep(0.02)
        raise AssertionError(f"{batch_id} waits for nothing")

    async def submit(self, client: AsyncOpenAI, content: bytes, **options: Any) -> Batch:
        """Upload lines and ask for them to be done."""
        file = await client.files.create(file=("in.jsonl", content), purpose="batch")
        wanted: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **options}
        return await client.batches.create(input_file_id=file.id, **wanted)

    async def results(self, client: AsyncOpenAI, file_id: str | None) -> dict[str, Any]:
        """Return the lines of a file of results by their names."""
        if file_id is None:
            return {}
        lines = (await client.files.content(file_id)).content.splitlines()
        found = [json.loads(line) for line in lines]
        assert len({line["custom_id"] for line in found}) == len(found)
        return {line["custom_id"]: line for line in found}

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
