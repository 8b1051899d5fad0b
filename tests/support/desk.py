"""Somebody's terminal: the command itself, against a real API on loopback."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # what a command says with --json

import uvicorn

from tests.support.control_plane import ControlPlane

REDOUBT = Path(sys.executable).parent / "redoubt"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


async def run_redoubt(*words: object, environment: Mapping[str, str]) -> Done:
    """Run the command with this environment alone, without colours and with nothing to read."""
    running = await asyncio.create_subprocess_exec(
        str(REDOUBT),
        *(str(word) for word in words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "NO_COLOR": "1", **environment},
    )
    out, err = await running.communicate()
    return Done(running.returncode or 0, out.decode(), err.decode())


class Desk:
    def __init__(self, profile: Path, *, columns: int = 250) -> None:
        self.profile = profile
        self.columns = columns

    async def run(self, *words: str) -> Done:
        return await run_redoubt(
            *words, environment={"REDOUBT_PROFILE": str(self.profile), "COLUMNS": str(self.columns)}
        )


@asynccontextmanager
async def open_desk(plane: ControlPlane, token: str, folder: Path) -> AsyncIterator[Desk]:
    """Serve the admin API and give a desk at which the token's owner is signed in."""
    server = uvicorn.Server(uvicorn.Config(plane.admin_app, port=0, lifespan="off", log_level="warning"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    profile = folder / "profile.json"
    profile.write_text(json.dumps({"url": url, "token": token}))
    profile.chmod(0o600)
    yield Desk(profile)
    server.should_exit = True
    await task
