"""Slurm's parts away one by one: what is known stays known, nothing is guessed, nothing is waited for without end."""

import asyncio
import json
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from controlplane.engines.port import EngineState
from controlplane.engines.slurm import rest as rest_module
from controlplane.engines.slurm.commands import Commands
from controlplane.engines.slurm.doubt import Doubt
from controlplane.engines.slurm.engine import SlurmEngine
from controlplane.engines.slurm.tokens import Tokens
from controlplane.engines.slurm.v0_0_42 import parse_job
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
            tmp_path / "slurmrestd.sock",
            tokens,
            clock=count(step=2).__next__,  # every call looks anew
            commands=Commands(tmp_path, tokens, timeout_s=5),
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


async def test_a_list_without_what_ran_a_moment_ago_is_not_believed_for_a_minute():
    now = [0.0]
    doubt = Doubt(lambda: now[0])
    running, other = parse_job(RUNNING), parse_job(RUNNING | {"job_id": 8})
    doubt.check([running, other])

    for now[0] in (1.0, 30.0, 60.0):
        with pytest.raises(Unavailable, match="does not list 2 jobs that ran a moment ago, such as 7"):
            doubt.check([])
    doubt.check([running, other])  # it was back in between: the minute begins anew
    now[0] = 100.0
    with pytest.raises(Unavailable):
        doubt.check([running])
    now[0] = 161.0
    doubt.check([running])
    doubt.check([running])


def test_a_job_that_ended_or_waited_may_go_from_the_list():
    doubt = Doubt(lambda: 0.0)
    doubt.check([parse_job(RUNNING | {"job_state": ["COMPLETED"]}), parse_job(RUNNING | {"job_state": ["PENDING"]})])

    doubt.check([])


async def test_an_empty_list_ends_no_run_that_the_engine_saw(make_engine, tmp_path):
    engine = make_engine({"jobs": [RUNNING], "errors": []})
    await engine.observe()
    make_engine({"jobs": [], "errors": []})

    with pytest.raises(Unavailable, match="does not list 1 jobs"):
        await engine.observe()


async def test_a_name_is_its_first_users_and_what_another_submits_under_it_is_no_run(make_engine):
    theirs = RUNNING | {"job_id": 8, "user_name": "redoubt-p02"}
    over = RUNNING | {"job_state": ["COMPLETED"]}

    observed = await make_engine({"jobs": [theirs, over], "errors": []}).observe()

    assert (observed["a"].ref, observed["a"].state) == ("7", EngineState.ENDED)


def test_a_start_that_is_being_ended_is_not_yet_the_next_one():
    ending = parse_job(RUNNING | {"job_state": ["PENDING", "REQUEUED", "COMPLETING"], "restart_cnt": 1}).observed()
    waits = parse_job(RUNNING | {"job_state": ["PENDING", "REQUEUED"], "restart_cnt": 1}).observed()

    assert (ending.state, ending.restarts) == (EngineState.RUNNING, 0)
    assert (waits.state, waits.restarts) == (EngineState.WAITING, 1)


@pytest.mark.parametrize(
    "words",
    [
        "Invalid account or account/partition combination specified",
        "Invalid qos specification",
        "Slurm backup controller in standby mode",
        "Requested operation is presently disabled",
    ],
)
async def test_what_slurm_does_not_take_yet_is_tried_again(make_engine, tmp_path, words):
    no = {"errors": [{"error_number": 2045, "error": words}], "warnings": []}
    async with await asyncio.start_unix_server(answering(no), tmp_path / "slurmrestd.sock"):
        with pytest.raises(Unavailable, match="does not take") as unavailable:
            await make_engine(None).start(shell("true"))

    assert unavailable.value.reasons == (words,)


def answering(submitted: object):
    """Serve a slurmrestd without jobs that answers a submission so."""
    answers = {
        b"GET /openapi/v3": {"paths": {"/slurm/v0.0.42/jobs/": {}}},
        b"GET /slurm/v0.0.42/jobs/": {"jobs": []},
        b"POST /slurm/v0.0.42/job/submit": submitted,
    }

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        content = json.dumps(answers[head.split(b" HTTP")[0]]).encode()
        writer.write(f"HTTP/1.1 200 X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()

    return serve


async def test_a_run_whose_nodes_are_down_waits_and_is_not_refused(make_engine, tmp_path):
    told = "Job submission resulted in non-zero return code: Required node not available (down, drained or reserved)"
    taken = {"job_id": 9, "warnings": [{"description": told}]}

    async with await asyncio.start_unix_server(answering(taken), tmp_path / "slurmrestd.sock"):
        run = await make_engine(None).start(shell("true"))

    assert (run.ref, run.state) == ("9", EngineState.WAITING)
