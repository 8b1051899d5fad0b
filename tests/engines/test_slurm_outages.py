"""Slurm's parts away one by one: what is known stays known, nothing is guessed, nothing is waited for without end."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.engines.port import EngineState
from controlplane.engines.slurm import rest as rest_module
from controlplane.engines.slurm.commands import Commands
from controlplane.engines.slurm.engine import SlurmEngine
from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.errors import Unavailable
from tests.engines.conformance import shell

RUNNING = {
    "job_id": 7,
    "name": "a",
    "user_name": "redoubt-p01",
    "partition": "training",
    "job_state": ["RUNNING"],
    "state_reason": "None",
    "nodes": "gpu1",
    "exit_code": {"return_code": {"number": 0}, "signal": {"name": ""}},
}


@pytest.fixture
def make_engine(tmp_path, monkeypatch):
    """An engine whose slurmrestd does as `serve` says, and whose commands print `said`."""
    monkeypatch.setattr(rest_module, "TIMEOUT_S", 0.3)
    for user in ("redoubt-serve", "redoubt-slurm", "redoubt-p01"):
        (tmp_path / user).write_text(user)

    def make(said: object | None) -> SlurmEngine:
        program = tmp_path / "scontrol"
        program.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n" if said is not None else "#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
        tokens = Tokens(tmp_path)
        return SlurmEngine(
            tmp_path / "slurmrestd.sock", tokens, clock=lambda: 0, commands=Commands(tmp_path, tokens, timeout_s=5)
        )

    return make


@pytest.fixture
async def hung(tmp_path):
    """A slurmrestd that takes every question and answers none; it is asked what is kept here."""
    asked: list[bytes] = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "slurmrestd.sock"):
        yield asked


async def test_runs_are_seen_by_the_commands_while_slurmrestd_hangs(make_engine, hung):
    engine = make_engine({"jobs": [RUNNING], "errors": []})

    observed = await engine.observe()

    assert observed["a"].state is EngineState.RUNNING
    assert len(hung) == 1


async def test_a_run_is_not_started_while_slurmrestd_hangs_and_a_known_one_is_known(make_engine, hung):
    engine = make_engine({"jobs": [RUNNING], "errors": []})

    with pytest.raises(Unavailable, match="slurmrestd does not answer"):
        await engine.start(shell("true"))
    known = await engine.start(replace(shell("true"), name="a", user="redoubt-p01"))

    assert known.ref == "7"
    assert not any(question.startswith(b"POST") for question in hung)


async def test_when_nothing_answers_it_is_said_what_is_wrong_with_slurmrestd(make_engine, hung):
    with pytest.raises(Unavailable, match="slurmrestd does not answer") as unavailable:
        await make_engine(None).observe()

    assert "systemctl status slurmrestd" in unavailable.value.remedy


async def test_runs_are_seen_by_the_commands_when_slurmrestd_is_not_there(make_engine):
    observed = await make_engine({"jobs": [RUNNING], "errors": []}).observe()

    assert list(observed) == ["a"]


async def test_a_run_that_waits_for_ever_says_why(make_engine):
    waits = RUNNING | {"job_state": ["PENDING"], "state_reason": "QOSNotAllowed", "nodes": ""}

    observed = await make_engine({"jobs": [waits], "errors": []}).observe()

    assert observed["a"].reason == "pending, QOSNotAllowed"


async def test_an_overseer_without_a_token_is_no_site_without_jobs(make_engine, tmp_path: Path):
    engine = make_engine({"jobs": [], "errors": []})
    (tmp_path / "redoubt-slurm").unlink()

    with pytest.raises(Unavailable, match="no Slurm token of redoubt-slurm"):
        await engine.observe()


async def test_a_run_whose_nodes_are_down_waits_and_is_not_refused(make_engine, tmp_path):
    told = "Job submission resulted in non-zero return code: Required node not available (down, drained or reserved)"
    answers = {
        b"GET /openapi/v3": {"paths": {"/slurm/v0.0.42/jobs/": {}}},
        b"GET /slurm/v0.0.42/jobs/": {"jobs": []},
        b"POST /slurm/v0.0.42/job/submit": {"job_id": 9, "warnings": [{"description": told}]},
    }

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        content = json.dumps(answers[head.split(b" HTTP")[0]]).encode()
        writer.write(f"HTTP/1.1 200 X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, tmp_path / "slurmrestd.sock"):
        run = await make_engine(None).start(shell("true"))

    assert (run.ref, run.state) == ("9", EngineState.WAITING)
