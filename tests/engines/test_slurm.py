"""The Slurm engine's reading of slurmrestd: answers recorded from Slurm 24.11.5, served on a unix socket."""

import asyncio
import json
from dataclasses import dataclass, field, replace

import pytest

from controlplane.engines.port import EndWarning, EngineState
from controlplane.engines.slurm.engine import SlurmEngine
from controlplane.engines.slurm.job import MARK, Job, read_gpu_indexes, read_indexes
from controlplane.engines.slurm.shared_look import SharedLook
from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.errors import BadInput, Refused, Unavailable
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


@pytest.fixture
def tokens(tmp_path):
    """A site that keeps a token for each user; what is in it is the user's name."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    for user in ("redoubt-serve", "redoubt-slurm", "redoubt-p01"):
        (folder / user).write_text(user)
    return Tokens(folder)


def listed(job_id, name, states, *, reason="None", nodes="gpu1", user="redoubt-serve", status=0, signal="", **more):
    return more | {
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
    assert (asked["job"]["account"], asked["job"]["qos"]) == ("redoubt", "inference")


async def test_the_token_is_read_for_every_call(rest):
    engine = rest.bench.connect()
    await engine.observe()
    rest.bench.token_file.write_text("two\n")
    rest.answers[SUBMIT] = (200, {"job_id": 7, "errors": [], "warnings": []})

    await engine.start(shell("true"))

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

    with pytest.raises(Unavailable, match="no Slurm token of redoubt-serve"):
        await rest.bench.connect().observe()


async def test_a_slurm_of_another_generation_is_refused(rest):
    rest.answers["GET /openapi/v3"] = (200, {"paths": {"/slurm/v0.0.99/jobs/": {}}})

    with pytest.raises(Unavailable, match=r"speaks v0\.0\.99 of slurm, and none of v0\.0\.42"):
        await rest.bench.connect().observe()


async def test_a_run_is_its_own_users_in_everything_that_is_asked_of_slurm(rest, tokens):
    rest.answers[SUBMIT] = (200, {"job_id": 7, "errors": [], "warnings": []})
    engine = SlurmEngine(rest.bench.socket, tokens, clock=lambda: 0)
    order = replace(
        shell("true"), user="redoubt-p01", account="lab", partition="training", qos="training-over",
        folder="/projects/p01", cpus=4, memory_mb=2048, requeues=True, warning=EndWarning("USR1", 90),
        only_nodes=("gpu2",), nice=50,
    )  # fmt: skip

    await engine.start(order)
    await engine.stop(order.name, grace_s=1)

    assert [(line, token) for line, token, _body in rest.asked if line.startswith(("POST", "DELETE"))] == [
        (SUBMIT, "redoubt-p01"),
        ("DELETE /slurm/v0.0.42/job/7", "redoubt-p01"),
    ]
    [job] = [body["job"] for line, _token, body in rest.asked if line == SUBMIT]
    assert (job["account"], job["partition"], job["qos"]) == ("lab", "training", "training-over")
    assert job["standard_output"] == "/projects/p01/%x.log"
    assert (job["cpus_per_task"], job["memory_per_node"]["number"], job["nice"]) == (4, 2048, 50)
    assert (job["requeue"], job["open_mode"], job["required_nodes"]) == (True, ["APPEND"], ["gpu2"])
    assert (job["kill_warning_signal"], job["kill_warning_delay"]["number"]) == ("USR1", 90)


async def test_a_user_without_a_token_is_named_and_nothing_is_submitted(rest, tokens):
    engine = SlurmEngine(rest.bench.socket, tokens, clock=lambda: 0)

    with pytest.raises(Unavailable, match="no Slurm token of redoubt-p02"):
        await engine.start(replace(shell("true"), user="redoubt-p02"))

    assert SUBMIT not in rest.lines()


async def test_slurm_is_asked_for_jobs_once_a_second_however_many_ask(rest, tokens):
    now = [0.0]
    engine = SlurmEngine(rest.bench.socket, tokens, clock=lambda: now[0])

    for _time in range(3):
        await asyncio.gather(*(engine.observe() for _caller in range(20)))
    now[0] = 1.0
    await engine.observe()

    assert rest.lines().count(JOBS) == 2
    assert {token for line, token, _body in rest.asked if line == JOBS} == {"redoubt-slurm"}


async def test_a_look_that_failed_is_told_to_all_and_taken_again_after_a_second():
    taken, now = [], [0.0]

    async def take():
        taken.append(1)
        raise Unavailable("away", remedy="wait")

    look = SharedLook(take, clock=lambda: now[0])

    told = await asyncio.gather(*(look.get() for _caller in range(5)), return_exceptions=True)
    with pytest.raises(Unavailable):
        await look.get()
    now[0] = 1.0
    with pytest.raises(Unavailable):
        await look.get()

    assert {str(error) for error in told} == {"away"}
    assert len(taken) == 2


async def test_a_run_is_known_from_its_submission_on_though_the_list_is_older(rest, tokens):
    rest.answers[SUBMIT] = (200, {"job_id": 7, "errors": [], "warnings": []})
    engine = SlurmEngine(rest.bench.socket, tokens, clock=lambda: 0)
    order = shell("true")

    first = await engine.start(order)
    again = await engine.start(order)

    assert (again.ref, (await engine.observe())[order.name].state) == (first.ref, EngineState.WAITING)
    assert rest.lines().count(SUBMIT) == 1


async def test_a_run_that_was_submitted_twice_is_taken_out_of_the_queue_once_it_had_its_turn(rest):
    jobs = [
        listed(1, "a", ["COMPLETED"], comment=MARK),
        listed(2, "a", ["PENDING"], reason="Dependency", nodes="", comment=MARK),
        listed(3, "b", ["PENDING"], nodes="", comment=MARK),
        listed(4, "proof", ["COMPLETED"]),
        listed(5, "proof", ["PENDING"], nodes=""),  # of the same user, and nothing that the engine submitted
    ]
    rest.answers[JOBS] = (200, {"jobs": jobs, "errors": []})

    await rest.bench.connect().observe()

    assert [line for line in rest.lines() if line.startswith("DELETE")] == ["DELETE /slurm/v0.0.42/job/2"]


async def test_an_array_is_listed_element_by_element(rest):
    number = {"set": True, "infinite": False, "number": 8}
    jobs = [
        listed(9, "a", ["RUNNING"], array_job_id=number, array_task_id={"set": True, "number": 0}),
        listed(
            8, "a", ["PENDING"], nodes="", array_job_id=number, array_task_id={"set": False, "number": 0},
            array_task_string="2-3,5%2",
        ),
    ]  # fmt: skip
    rest.answers[JOBS] = (200, {"jobs": jobs, "errors": []})

    observed = await rest.bench.connect().observe()

    assert {name: (run.ref, run.state.value) for name, run in observed.items()} == {
        "a.0": ("8_0", "running"),
        "a.2": ("8_2", "waiting"),
        "a.3": ("8_3", "waiting"),
        "a.5": ("8_5", "waiting"),
    }


async def test_a_run_tells_its_gpus_and_how_often_it_started_again(rest):
    seconds = {"set": True, "infinite": False, "number": 1795813687}
    jobs = [
        listed(
            1, "a", ["RUNNING"], gres_detail=["gpu:h100:3(IDX:0,2-3)"], restart_cnt=2, start_time=seconds,
            end_time=seconds,
        ),
        listed(2, "b", ["PENDING"], nodes="", gres_detail=["gpu:h100:1(IDX:1)"], start_time=seconds),
    ]  # fmt: skip
    rest.answers[JOBS] = (200, {"jobs": jobs, "errors": []})

    observed = await rest.bench.connect().observe()

    assert (observed["a"].gpu_indexes, observed["a"].restarts) == ((0, 2, 3), 2)
    assert str(observed["a"].started_at) == "2026-11-27 21:08:07+00:00"
    assert observed["a"].ended_at is None
    assert (observed["b"].gpu_indexes, observed["b"].started_at) == ((), None)


async def test_several_nodes_to_choose_from_are_all_others_left_alone(rest):
    rest.answers[SUBMIT] = (200, {"job_id": 7, "errors": [], "warnings": []})
    nodes = [{"name": name} for name in ("gpu1", "gpu2", "gpu3", "gpu4")]
    rest.answers["GET /slurm/v0.0.42/nodes/"] = (200, {"nodes": nodes, "errors": []})

    await rest.bench.connect().start(replace(shell("true"), only_nodes=("gpu1", "gpu2", "gpu3"), avoid_nodes=("gpu2",)))

    [job] = [body["job"] for line, _token, body in rest.asked if line == SUBMIT]
    assert job["excluded_nodes"] == ["gpu2", "gpu4"]


@pytest.mark.parametrize("text", ["1;2", "a", "-1", "0-", "0-1000", "3-1", "1%0"])
async def test_what_is_no_array_is_refused_before_slurm_hears_of_it(rest, text):
    with pytest.raises(BadInput, match="no array"):
        await rest.bench.connect().start(replace(shell("true"), array=text))

    assert SUBMIT not in rest.lines()


@pytest.mark.parametrize(
    ("details", "indexes"),
    [([], ()), (["gpu:h100:2(IDX:1-2)"], (1, 2)), (["gpu:1(IDX:3)", "shard:1(IDX:0)"], (3,)), (["gpu:0(IDX:N/A)"], ())],
)
def test_slurms_word_for_devices_is_read(details, indexes):
    assert read_gpu_indexes(details) == indexes


def test_slurms_word_for_elements_is_read():
    assert list(read_indexes("0-2,5,8-12:2%3")) == [0, 1, 2, 5, 8, 10, 12]


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
