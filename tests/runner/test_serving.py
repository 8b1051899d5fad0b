"""A run that serves: what it says, whom it lets in, how it leaves."""

import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from lab.nvml import build_library

from tests.runner.runs import GATEWAY, SPEC, ask, is_gone, running, tokens_of, until
from tests.runner.stand_in_api import StandInApi, stand_in_api
from tests.support.certificates import issue, make_site_ca
from tests.support.source import ROOT


@pytest.fixture(scope="module")
def ready(site):
    with stand_in_api(site.api, StandInApi()) as api, running(site, api) as run:
        yield run.until_ready()


def test_a_run_registers_proves_itself_and_answers_the_gateway(ready):
    with ready.gateway() as gateway:
        answer = gateway.post("/v1/chat/completions", json=ask()).json()

    [told] = ready.api.registered
    assert answer["usage"]["completion_tokens"] == 4
    assert answer["choices"][0]["message"]["content"]
    assert told["job_id"] == f"pid:{ready.pid}"
    assert told["host"] == "127.0.0.1"
    assert 21000 <= told["port"] <= 21999
    assert told["nonce"] == "once"
    assert told["gpu_uuids"] == []


def test_a_stream_arrives_token_by_token(ready):
    with ready.gateway() as gateway:
        with gateway.stream("POST", "/v1/chat/completions", json=ask(tokens=40, stream=True)) as answer:
            chunks = list(answer.iter_raw())

        assert len(chunks) > 3
        assert tokens_of(iter(b"".join(chunks).decode().splitlines())) == 40


def test_nobody_but_the_gateway_is_let_in(ready, site, tmp_path):
    stranger = issue(make_site_ca(tmp_path / "elsewhere"), "gateway", uri=GATEWAY)

    for files in (site.other_service, stranger):
        with ready.gateway(files) as client, pytest.raises((httpx.TransportError, ssl.SSLError)):
            client.get("/health")
    told = ready.api.registered[0]
    nobody = ssl.create_default_context(cadata=told["certificate_pem"])
    nobody.check_hostname = False
    with (
        httpx.Client(base_url=f"https://127.0.0.1:{told['port']}", verify=nobody, trust_env=False) as client,
        pytest.raises((httpx.TransportError, ssl.SSLError)),
    ):
        client.get("/health")
    with ready.gateway() as gateway:
        assert gateway.get("/health").status_code == 200


def test_the_inference_server_knows_neither_the_spec_nor_a_port(ready):
    server = ready.server_pid()

    environment = Path(f"/proc/{server}/environ").read_bytes()
    command = Path(f"/proc/{server}/cmdline").read_bytes().decode().split("\0")
    [unix_socket] = [Path(part.partition("=")[2]) for part in command if part.startswith("--socket=")]

    assert SPEC.encode() not in environment
    assert unix_socket.is_socket()
    assert unix_socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_run_registers_the_gpus_that_slurm_gave_it(site, api, tmp_path):
    state = tmp_path / "nvml.state"
    script = ROOT / "images/practice/gpu_state.py"
    state.write_bytes(subprocess.run([sys.executable, script, "h100"], check=True, capture_output=True).stdout)
    driver = {"LD_LIBRARY_PATH": str(build_library().parent), "REDOUBT_SIM_NVML_STATE": str(state)}
    job = {"SLURM_JOB_ID": "42", "SLURMD_NODENAME": "gpu1", "SLURM_JOB_GPUS": "1,3"}
    all_four = re.findall(r"GPU-[0-9a-f-]{36}", state.read_text())

    with running(site, api, around=driver | job, gpus=2) as run:
        run.until_ready()

        [told] = api.registered
        assert told["gpu_uuids"] == [all_four[1], all_four[3]]
        assert (told["job_id"], told["node"]) == ("42", "gpu1")


def test_two_runs_of_one_host_take_two_ports(site, api):
    with running(site, api, first_port=22000, last_port=22001) as first:
        first.until_ready()
        with running(site, api, first_port=22000, last_port=22001) as second:
            until(lambda: len(api.registered) == 2)
            with running(site, api, first_port=22000, last_port=22001) as third:
                assert third.exit_code() == 5
                assert "no free port" in third.log()
            assert {told["port"] for told in api.registered} == {22000, 22001}
            assert second.process.poll() is None


def test_sigterm_lets_a_running_answer_finish(site, api):
    with running(site, api) as run, run.until_ready().gateway() as gateway:
        with gateway.stream("POST", "/v1/chat/completions", json=ask(tokens=1000, stream=True)) as answer:
            lines = answer.iter_lines()
            next(lines)
            run.process.send_signal(signal.SIGTERM)
            os.kill(run.server_pid(), signal.SIGTERM)  # as Slurm does, to every process of the job
            until(lambda: "draining" in api.phases())
            tokens = tokens_of(lines)
        gateway.close()

        assert tokens > 900
        assert run.exit_code() == 0
        assert api.phases() == ["starting", "ready", "draining"]


def test_the_control_plane_may_ask_a_run_to_drain(site, api):
    with running(site, api) as run:
        server = run.until_ready().server_pid()
        api.drain = True

        assert run.exit_code() == 0
        assert api.phases()[-1] == "draining"
        assert is_gone(server)
        assert "drained" in run.log()


def test_sigterm_before_a_run_is_ready_ends_it_at_once(site, api):
    api.answer = 503
    with running(site, api) as run:
        until(lambda: "control_plane.answered" in run.log())
        run.process.send_signal(signal.SIGTERM)

        assert run.exit_code() == 0
