"""A run without a lease says nothing to anybody."""

import os
import signal
import socket
import ssl
import time
from functools import partial

import httpx
import pytest

from controlplane.kit.tls import pinned_context
from tests.runner.runs import ask, is_gone, running, until

SHORT_S = 4.0


def test_a_run_whose_control_plane_is_away_goes_on_serving(site, api):
    with running(site, api, lease_s=SHORT_S) as run:
        run.until_ready()

        api.answer = 0
        time.sleep(SHORT_S + 1)
        with run.gateway() as gateway:
            answer = gateway.post("/v1/chat/completions", json=ask())

        assert answer.status_code == 200
        assert run.process.poll() is None


def test_a_copy_that_was_given_up_while_cut_off_asks_before_it_answers(site, api):
    with running(site, api, lease_s=SHORT_S) as run:
        server = run.until_ready().server_pid()
        api.answer = 0
        time.sleep(SHORT_S + 1)

        api.keep = False
        api.answer = 200
        with pytest.raises(httpx.TransportError), run.gateway() as gateway:
            gateway.post("/v1/chat/completions", json=ask())

        assert run.exit_code() == 4
        assert is_gone(server)


def test_a_short_silence_changes_nothing(site, api):
    with running(site, api) as run, run.until_ready().gateway() as gateway:
        for answer, slow_s in ((0, 0.0), (500, 0.0), (200, 0.6)):
            api.answer, api.slow_s = answer, slow_s
            time.sleep(0.8)
            api.answer, api.slow_s = 200, 0.0
            said = len(api.said)
            until(partial(has_said_more, api, said))

        assert gateway.post("/v1/chat/completions", json=ask()).status_code == 200
        assert run.process.poll() is None


@pytest.mark.parametrize(("status", "keep"), [(200, False), (401, True), (404, True)])
def test_a_run_whose_lease_is_taken_away_is_fenced_at_once(site, api, status, keep):
    with running(site, api) as run:
        server = run.until_ready().server_pid()

        api.answer, api.keep = status, keep

        assert run.exit_code() == 4
        assert is_gone(server)


def test_a_run_that_was_frozen_past_its_lease_sends_nothing_when_it_wakes(site, api):
    with running(site, api, lease_s=SHORT_S) as run:
        server = run.until_ready().server_pid()
        stream = open_stream(run, site, api, tokens=1900)
        os.kill(server, signal.SIGSTOP)  # in the middle of its answer
        assert b"[DONE]" not in read_all_there_is(stream)
        os.kill(run.pid, signal.SIGSTOP)
        os.kill(server, signal.SIGCONT)  # the rest of the answer waits for a run that sleeps
        time.sleep(SHORT_S + 0.5)

        os.kill(run.pid, signal.SIGCONT)

        assert ends(stream, exactly=True)
        assert run.exit_code() == 4
        assert is_gone(server)


def test_a_run_that_was_frozen_within_its_lease_goes_on(site, api):
    with running(site, api) as run, run.until_ready().gateway() as gateway:
        os.kill(run.pid, signal.SIGSTOP)
        time.sleep(0.8)
        os.kill(run.pid, signal.SIGCONT)

        assert gateway.post("/v1/chat/completions", json=ask()).status_code == 200


def test_a_killed_run_takes_its_server_along_and_the_next_one_sweeps_up(site, api):
    with running(site, api) as run:
        server = run.until_ready().server_pid()
        run.process.kill()
        run.process.wait()
        until(lambda: is_gone(server))
        with pytest.raises(httpx.ConnectError), run.gateway() as gateway:
            gateway.get("/health")
    api.said.clear()
    left_behind = set(site.scratch.iterdir())

    with running(site, api) as following:
        following.until_ready()
        assert left_behind
        assert left_behind.isdisjoint(site.scratch.iterdir())


def has_said_more(api, than):
    return len(api.said) > than


def open_stream(run, site, api, tokens=1900):
    """Ask for a long answer on a bare TLS socket, so that every byte is seen when it comes."""
    told = api.registered[-1]
    context = pinned_context(told["certificate_pem"], site.gateway)
    plain = socket.create_connection(("127.0.0.1", told["port"]), timeout=5)
    stream = context.wrap_socket(plain)
    with httpx.Client() as shape:
        request = shape.build_request("POST", "http://run/v1/chat/completions", json=ask(tokens=tokens, stream=True))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    stream.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + request.content)
    assert stream.recv(1)
    return stream


def read_all_there_is(stream: ssl.SSLSocket) -> bytes:
    """Read what has arrived, without waiting for more."""
    stream.settimeout(0.1)
    found = b""
    while True:
        try:
            found += (chunk := stream.recv(65536))
        except TimeoutError:
            return found
        if not chunk:
            return found


def ends(stream: ssl.SSLSocket, *, exactly: bool = False) -> bool:
    """Say whether the peer hangs up; `exactly`: without another byte."""
    stream.settimeout(5)
    with stream:
        try:
            while chunk := stream.recv(65536):
                if exactly:
                    raise AssertionError(f"{len(chunk)} more bytes came")
        except (ConnectionError, ssl.SSLError):
            return True
    return True
