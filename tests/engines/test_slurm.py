"""The Slurm engine's reading of slurmrestd: answers recorded from Slurm 24.11.5, served on a unix socket."""

import asyncio
import json
from dataclasses import dataclass, field, replace

import pytest

from controlplane.engines.port import EngineState
from controlplane.engines.slurm.job import Job
from controlplane.kit.errors import Refused, Unavailable
from tests.engines.benches import SlurmBench
from tests.engines.conformance import shell

PATHS: dict = {"paths": {"/slurm/v0.0.41/jobs/": {}, "/slurm/v0.0.42/jobs/": {}}}
SUBMIT, JOBS = "POST /slurm/v0.0.42/job/submit", "GET /slurm/v0.0.42/jobs/"
NO_CONTROLLER = {
    "description": "",
    "error_number": 1800,
    "error": "Unable to contact slurm controller (connect failure)",
}
BAD_TOKEN = {"description": "Unable to query jobs", "error_number": 1007, "error": "Protocol authentication error"}
NO_SUCH_NODE = {"error_number": 2014, "error": "Requested node configuration is not available"}


@dataclass
class StandInRest:
    """Answers by method and path; `asked` holds every request line, token and body."""

    bench: SlurmBench
    answers: dict[str, tuple[int, dict]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict]] = field(default_factory=list)

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.lower().splitlines()[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        line = head.split(" HTTP", 1)[0]
        self.asked.append((line, headers["x-slurm-user-token"], json.loads(body or b"{}")))
        status, answer = self.answers.get(line, (200, {"status": [], "errors": [], "warnings": []}))
        content = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        writer.close()

    def lines(self) -> list[str]:
        return [line for line, _token, _body in self.asked]


@pytest.fixture
async def rest(tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("one\n")
    stand_in = StandInRest(SlurmBench(tmp_path / "slurmrestd.sock", token_file, ()))
    stand_in.answers = {"GET /openapi/v3": (200, PATHS), JOBS: (200, {"jobs": [], "errors": []})}
    async with await asyncio.start_unix_server(stand_in.serve, stand_in.bench.socket):
        yield stand_in


def listed(job_id, name, states, *, reason="None", nodes="gpu1", user="redoubt-serve", status=0, signal=""):
    return {
        "job_id": job_id,
        "name": name,
        "user_name": user,
        "partition": "inference",
        "job_state": states,
        "state_reason": reason,
        "nodes": nodes,
        "exit_code": {"return_code": {"number": status}, "signal": {"name": signal}},
    }


async def test_an_order_becomes_a_job_with_everything_that_was_asked(rest):
    rest.answers[SUBMIT] = (200, {"job_id": 7, "errors": [], "warnings": []})
    order = replace(shell("it's"), gpus=2, gpu_type="h100", time_limit_s=90, avoid_nodes=("gpu2",))

    run = await rest.bench.connect().start(replace(order, environment={"A": "b c"}))

    [asked] = [body for line, _token, body in rest.asked if line == SUBMIT]
    assert run.ref == "7"
    assert asked["script"] == "#!/bin/sh\nexec /bin/sh -c 'it'\"'\"'s'\n"
    assert asked["job"]["tres_per_node"] == "gres/gpu:h100:2"
    assert asked["job"]["time_limit"] == {"set": True, "number": 2}
    assert asked["job"]["excluded_nodes"] == ["gpu2"]
    assert asked["job"]["environment"] == ["PATH=/usr/local/bin:/usr/bin:/bin", "A=b c"]
    assert asked["job"]["requeue"] is False
    assert (asked["job"]["account"], asked["job"]["qos"]) == ("redoubt", "serving")


async def test_the_token_is_read_for_every_call(rest):
    engine = rest.bench.connect()
    await engine.observe()
    rest.bench.token_file.write_text("two\n")

    await engine.observe()

    assert rest.asked[-1][1] == "two"


@pytest.mark.parametrize(
    ("status", "error", "said"), [(511, BAD_TOKEN, "the token"), (502, NO_CONTROLLER, "Unable to contact")]
)
async def test_a_slurm_that_cannot_answer_is_unavailable(rest, status, error, said):
    rest.answers[JOBS] = (status, {"jobs": [], "errors": [error]})

    with pytest.raises(Unavailable, match=said) as unavailable:
        await rest.bench.connect().observe()

    assert "systemctl status" in unavailable.value.remedy


async def test_a_token_that_is_missing_is_named(rest):
    rest.bench.token_file.unlink()

    with pytest.raises(Unavailable, match="no Slurm token"):
        await rest.bench.connect().observe()


async def test_a_slurm_of_another_generation_is_refused(rest):
    rest.answers["GET /openapi/v3"] = (200, {"paths": {"/slurm/v0.0.99/jobs/": {}}})

    with pytest.raises(Unavailable, match=r"speaks none of v0\.0\.42"):
        await rest.bench.connect().observe()


async def test_a_refused_submission_may_be_asked_again(rest):
    order = shell("true")
    burnt = listed(3, order.name, ["FAILED"], reason="BadConstraints", nodes="")
    rest.answers[JOBS] = (200, {"jobs": [burnt], "errors": []})
    rest.answers[SUBMIT] = (500, {"errors": [NO_SUCH_NODE], "warnings": []})

    with pytest.raises(Refused) as refused:
        await rest.bench.connect().start(order)

    assert refused.value.reasons == ("Requested node configuration is not available",)


async def test_a_job_that_slurm_half_understood_is_taken_back(rest):
    warning = {"description": 'Ignoring unknown field "foo"', "source": "#/job/foo/"}
    rest.answers[SUBMIT] = (200, {"job_id": 9, "errors": [], "warnings": [warning]})

    with pytest.raises(Refused, match="Ignoring unknown field"):
        await rest.bench.connect().start(shell("true"))

    assert rest.lines()[-1] == "DELETE /slurm/v0.0.42/job/9"


async def test_a_waiting_job_is_taken_out_of_the_queue_and_a_running_one_is_told(rest):
    jobs = [listed(1, "waits", ["PENDING"], nodes=""), listed(2, "runs", ["RUNNING"]), listed(3, "over", ["FAILED"])]
    rest.answers[JOBS] = (200, {"jobs": jobs, "errors": []})
    engine = rest.bench.connect()

    for name in ("waits", "runs", "over"):
        await engine.stop(name, grace_s=30)

    assert [line for line in rest.lines() if line.startswith("DELETE")] == [
        "DELETE /slurm/v0.0.42/job/1",
        "DELETE /slurm/v0.0.42/job/2?signal=SIGTERM&flags=BATCH_JOB",
    ]


async def test_jobs_of_others_are_not_ours_and_of_two_with_a_name_the_living_one_counts(rest):
    jobs = [
        listed(1, "a", ["RUNNING"], user="anna"),
        listed(2, "b", ["RUNNING"]),
        listed(3, "b", ["PENDING"], reason="Dependency"),
        listed(4, "c", ["NODE_FAIL"]),
    ]
    rest.answers[JOBS] = (200, {"jobs": jobs, "errors": []})

    observed = await rest.bench.connect().observe()

    assert {run.name: run.ref for run in observed.values()} == {"b": "2", "c": "4"}


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ({"PENDING"}, EngineState.WAITING),
        ({"PENDING", "REQUEUED"}, EngineState.WAITING),
        ({"RUNNING"}, EngineState.RUNNING),
        ({"RUNNING", "CONFIGURING"}, EngineState.RUNNING),
        ({"CANCELLED", "COMPLETING"}, EngineState.RUNNING),
        ({"CANCELLED"}, EngineState.ENDED),
        ({"NODE_FAIL"}, EngineState.ENDED),
        ({"A_WORD_OF_TOMORROW"}, EngineState.RUNNING),
    ],
)
def test_slurms_words_are_mapped(states, state):
    job = Job(1, "a", "u", "p", frozenset(states), "None", "gpu1", 0, "")

    assert job.state is state
