"""A run that cannot serve says why, once, and ends."""

import hashlib
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.runner.runs import SPEC, running, until
from tests.runner.stand_in_api import StandInApi, stand_in_api
from tests.support.certificates import issue, make_site_ca


@pytest.mark.parametrize("status", [403, 409])
def test_a_run_that_is_refused_ends_without_starting_anything(site, api, status):
    api.answer = status
    with running(site, api) as run:
        assert run.exit_code() == 3
        assert api.said == []


def test_a_run_waits_for_a_control_plane_that_is_away(site, api):
    api.answer = 0
    with running(site, api) as run:
        until(lambda: run.log().count("control_plane.silent") > 1)
        api.answer = 200
        run.until_ready()


def test_a_run_does_not_talk_to_a_control_plane_that_is_not_the_sites(site, tmp_path):
    impostor = issue(make_site_ca(tmp_path), "api")
    with stand_in_api(impostor, StandInApi()) as api, running(site, api) as run:
        until(lambda: "CERTIFICATE_VERIFY_FAILED" in run.log())
        assert api.registered == []


def test_other_weights_than_the_chosen_ones_are_not_loaded(site, api):
    with running(site, api, model_sha256="0" * 64) as run:
        assert run.exit_code() == 5
        assert failed_with(api) == f"{site.model} has SHA-256 {site.model_sha256}, not {'0' * 64}: pull the model again"


def test_a_model_file_that_is_missing_is_named(site, api):
    with running(site, api, model_path="/nonexistent/x.gguf") as run:
        assert run.exit_code() == 5
        assert "/nonexistent/x.gguf" in failed_with(api)


def test_a_model_that_cannot_be_loaded_fails_with_the_servers_own_words(site, api, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(site.model.read_bytes()[: site.model.stat().st_size // 2])
    with running(
        site, api, model_path=str(broken), model_sha256=hashlib.sha256(broken.read_bytes()).hexdigest()
    ) as run:
        assert run.exit_code() == 5
        assert re.search("failed to load model|model loading error|Failed to init server", failed_with(api))


def test_a_server_that_dies_is_reported(site, api):
    with running(site, api) as run:
        os.kill(run.until_ready().server_pid(), signal.SIGKILL)

        assert run.exit_code() == 5
        assert failed_with(api).startswith("the inference server ended with signal 9")


def test_gpus_that_were_asked_for_and_not_given_are_a_failure(site, api):
    with running(site, api, gpus=2) as run:
        assert run.exit_code() == 5
        assert failed_with(api).startswith("2 GPUs asked for")


def test_an_adapter_that_does_not_exist_is_named(site, api):
    with running(site, api, adapter="vllm") as run:
        assert run.exit_code() == 5
        assert "no adapter 'vllm'" in failed_with(api)


def test_a_spec_that_is_wrong_is_told_and_nothing_starts():
    command = [sys.executable, "-m", "controlplane.main.runner", "--spec-env", SPEC]

    ended = subprocess.run(
        command, env={**os.environ, SPEC: '{"nonce": 1}'}, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert f"{SPEC} holds no run: replica_id: Field required" in ended.stderr


def failed_with(api: StandInApi) -> str:
    assert api.phases()[-1] == "failed"
    return api.said[-1]["detail"]
