"""redoubt job as people run it: a real api, the process engine, real supervisors and commands."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn

from controlplane.cli.job_words import printable, read_checkpoint, read_duration_s, read_environment, read_size_bytes
from controlplane.domains.audit.types import Role
from controlplane.domains.jobs.loops.converging import JobLoops, JobPlace
from controlplane.engines.process import ProcessEngine
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput
from controlplane.kit.loop import run_every
from tests.support.control_plane import ControlPlane
from tests.support.desk import Done, run_redoubt
from tests.support.jobs import JobSite


class Desk:
    """A tenant's terminal."""

    def __init__(self, url: str, token: str, home: Path) -> None:
        self.environment = {
            "HOME": str(home), "REDOUBT_URL": url, "REDOUBT_TOKEN": token, "COLUMNS": "250",
        }  # fmt: skip

    async def run(self, *words: str) -> Done:
        return await run_redoubt("job", *words, environment=self.environment)


@pytest.fixture
async def desk(plane: ControlPlane, admin: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """Give a tenant's desk at a box whose jobs really run."""
    async with plane.client(admin) as client:
        await JobSite(plane, client).prepare()
    server = uvicorn.Server(uvicorn.Config(plane.admin_app, port=0, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    engine = ProcessEngine(
        tmp_path / "engine",
        node=socket.gethostname().partition(".")[0],
        environment={"PATH": os.defpath},
        clock=SystemClock().monotonic,
    )
    loops = JobLoops(plane.database, engine, JobPlace(sys.executable, url, "", str(tmp_path / "projects")))
    looping = asyncio.create_task(run_every("jobs", 0.2, loops.converge))
    yield Desk(url, await plane.person(Role.TENANT_USER, project="blue"), tmp_path)
    looping.cancel()
    with suppress(asyncio.CancelledError):
        await looping
    for name in await engine.observe():
        await engine.stop(name, grace_s=0)
    await engine.observe()
    server.should_exit = True
    await serving


async def test_a_command_runs_and_its_output_and_status_come_back(desk: Desk):
    script = "import sys; print('learned'); print('hm', file=sys.stderr)"
    done = await desk.run("run", "--project", "blue", "--wait", "--name", "t", "--", sys.executable, "-c", script)
    assert (done.code, "is done" in done.out) == (0, True), done
    job = done.out.split()[0]
    logs = await desk.run("logs", job)
    assert logs.out == "learned\n"
    assert "hm\n" in logs.err
    assert "the command ended with status 0" in logs.err
    shown = await desk.run("show", job)
    assert "done" in shown.out
    assert [row["name"] for row in json.loads((await desk.run("list", "--all", "--json")).out)] == ["t"]
    assert (await desk.run("list")).out.startswith("no jobs")


async def test_a_command_that_fails_fails_the_wait_and_says_where_to_look(desk: Desk):
    done = await desk.run("run", "--project", "blue", "--wait", "--", sys.executable, "-c", "raise SystemExit(3)")
    assert done.code == 1
    assert "failed: it ended with status 3" in done.out
    assert "next: redoubt job logs" in done.out


async def test_logs_follow_until_the_end_and_a_stop_gives_grace(desk: Desk):
    script = "import time\nprint('up', flush=True)\ntime.sleep(600)"
    made = await desk.run("run", "--project", "blue", "--json", "--", sys.executable, "-c", script)
    job = json.loads(made.out)["id"]
    following = asyncio.create_task(desk.run("logs", "--follow", job))
    for _ in range(100):
        if (await desk.run("logs", job)).out == "up\n":
            break
    assert (await desk.run("stop", job)).out == f"{job} is stopping\n"
    followed = await asyncio.wait_for(following, 60)
    assert (followed.code, followed.out) == (0, "up\n")
    told = json.loads((await desk.run("explain", job, "--json")).out)
    assert (told["state"], told["reason"]) == ("stopped", "stopped as asked")


async def test_a_dry_run_and_a_refusal_write_nothing_and_say_what_next(desk: Desk):
    plan = await desk.run("run", "--project", "blue", "--gpus", "2", "--type", "h100", "--dry-run", "--", "x")
    assert "class training, as redoubt-p01" in plan.out
    refused = await desk.run("run", "--project", "blue", "--gpus", "9", "--type", "h100", "--", "x")
    assert refused.code == 3
    assert "next: " in refused.err
    image = await desk.run("run", "--project", "blue", "--image", "torch", "--", "x")
    assert (image.code, "cannot be run yet" in image.err) == (2, True)
    other = await desk.run("run", "--project", "red", "--", "x")
    assert (other.code, "no project or team red" in other.err) == (3, True)
    assert json.loads((await desk.run("list", "--all", "--json")).out) == []


async def test_the_same_token_submits_once(desk: Desk):
    words = ("run", "--project", "blue", "--token", "n1", "--json", "--", "true")
    first, second = await desk.run(*words), await desk.run(*words)
    assert json.loads(first.out)["id"] == json.loads(second.out)["id"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d12h", 129600)])
def test_a_time_is_read(text: str, seconds: int):
    assert read_duration_s(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("512M", 512 << 20), ("40G", 40 << 30), ("1GiB", 1 << 30)])
def test_a_size_is_read(text: str, size: int):
    assert read_size_bytes(text) == size


def test_a_checkpoint_is_a_signal_and_seconds():
    made = read_checkpoint("SIGUSR1@90")
    assert made is not None
    assert (made.signal, made.before_s) == ("USR1", 90)
    assert read_checkpoint("") is None


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (read_duration_s, "2"), (read_duration_s, "h"), (read_size_bytes, "x"), (read_size_bytes, "-1"),
        (read_checkpoint, "KILL@60"), (read_checkpoint, "USR1@x"), (read_checkpoint, "USR1@1"),
    ],
)  # fmt: skip
def test_a_word_that_is_none_is_refused_with_one_that_is(reader, text: str):
    with pytest.raises(BadInput) as error:
        reader(text)
    assert error.value.remedy


def test_a_variable_without_a_value_is_refused():
    assert read_environment(["A=1=2", "B="]) == {"A": "1=2", "B": ""}
    with pytest.raises(BadInput):
        read_environment(["A"])


def test_what_a_job_writes_cannot_steer_a_terminal():
    hostile = b"\x1b]0;title\x07\x1b[2Jok\tfine\r\n\x9b31m" + "\u202ereversed\u200b".encode() + b"\xff"
    assert printable(hostile) == (
        "\\x1b]0;title\\x07\\x1b[2Jok\tfine\n\ufffd31m\\x202ereversed\\x200b\ufffd"
    )  # fmt: skip
