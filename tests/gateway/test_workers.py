"""Four workers on one port: a crash or a reload of any of them is nobody else's business."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from controlplane.kit.tls import CertificateFiles
from tests.gateway.process import GatewayProcess, ReplicaThread, StandInControlPlane, until
from tests.gateway.stage import ASK, STREAMED, Call

WORKERS = 4


@pytest.fixture
def four(gateway: GatewayProcess, replica: ReplicaThread, control_plane: StandInControlPlane) -> GatewayProcess:
    control_plane.publish(replica.replica.spec)
    gateway.start(workers=WORKERS)
    until(lambda: len(gateway.events("snapshot.accepted")) == WORKERS)
    return gateway


class Visitors:
    """Ask one thing after the other, each on a connection of its own, and keep what came of it."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self._over = threading.Event()
        self.came: list[int | str] = []

    def ask(self) -> None:
        while not self._over.is_set():
            try:
                with self._gateway.client() as client:
                    self.came.append(client.post("/v1/chat/completions", content=ASK).status_code)
            except httpx.TransportError as error:
                self.came.append(repr(error))

    def stop(self) -> None:
        self._over.set()


@contextmanager
def visitors(gateway: GatewayProcess) -> Iterator[Visitors]:
    asking = Visitors(gateway)
    threads = [threading.Thread(target=asking.ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(asking.came) > 5)
        yield asking
        seen = len(asking.came)
        until(lambda: len(asking.came) > seen + 10)
    finally:
        asking.stop()
        for thread in threads:
            thread.join()


def test_a_reload_drops_no_request_and_no_stream(
    gateway: GatewayProcess, control_plane: StandInControlPlane, gateway_files: CertificateFiles, four: GatewayProcess
):
    go_on = asyncio.Event()

    async def talk(call: Call) -> None:
        if b'"stream":true' not in call.request.body:
            await call.answer()
            return
        await call.begin_stream()
        await call.event("one")
        await go_on.wait()
        await call.end_stream()

    slow = ReplicaThread(gateway_files.ca, talk)
    control_plane.publish(slow.replica.spec)
    until(lambda: len(gateway.events("snapshot.accepted")) == 2 * WORKERS)
    before = four.workers()
    with four.client() as client, client.stream("POST", "/v1/chat/completions", content=STREAMED) as stream:
        lines = stream.iter_lines()
        next(lines)
        with visitors(four) as asking:
            four.process.send_signal(signal.SIGHUP)
            until(lambda: len(four.events("gateway.listening")) == 2 * WORKERS)
            until(lambda: len(four.events("worker.relieved")) == WORKERS - 1)
        slow.call(go_on.set)
        rest = [line for line in lines if line]
    until(lambda: len(four.events("worker.relieved")) == WORKERS)
    slow.stop()

    assert set(asking.came) == {200}
    assert rest[-1] == "data: [DONE]"
    assert not before & four.workers()
    assert four.events("worker.died") == []
    assert four.stop() == 0


def test_a_worker_that_dies_after_a_reload_is_replaced_while_the_one_before_still_finishes(
    four: GatewayProcess, control_plane: StandInControlPlane, gateway_files: CertificateFiles
):
    go_on = asyncio.Event()

    async def talk(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        await go_on.wait()
        await call.end_stream()

    slow = ReplicaThread(gateway_files.ca, talk)
    control_plane.publish(slow.replica.spec)
    until(lambda: len(four.events("snapshot.accepted")) == 2 * WORKERS)
    with four.client() as client, client.stream("POST", "/v1/chat/completions", content=STREAMED) as stream:
        lines = stream.iter_lines()
        next(lines)
        before = four.workers()
        four.process.send_signal(signal.SIGHUP)
        until(lambda: len(four.events("worker.relieved")) == WORKERS - 1)
        for pid in four.workers() - before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(four.events("worker.died")) == WORKERS)
        until(lambda: len(four.events("gateway.listening")) == 3 * WORKERS)
        four.process.send_signal(signal.SIGHUP)
        until(lambda: len(four.events("gateway.listening")) == 4 * WORKERS)
        slow.call(go_on.set)
        rest = [line for line in lines if line]
    until(lambda: len(four.workers()) == WORKERS)
    slow.stop()

    assert rest[-1] == "data: [DONE]"
    assert four.stop() == 0


def test_a_reload_with_settings_that_cannot_be_read_changes_nothing(four: GatewayProcess):
    before = four.workers()
    (four.folder / "gateway.toml").write_text("workers = 'many'")

    with visitors(four) as asking:
        four.process.send_signal(signal.SIGHUP)
        until(lambda: len(four.events("worker.died")) == WORKERS)

    assert set(asking.came) == {200}
    assert four.workers() == before
    assert four.stop() == 0


def test_the_crash_of_one_worker_costs_the_others_nothing(four: GatewayProcess):
    until(lambda: all(Path(f"/proc/{pid}").exists() for pid in four.workers()))
    kept = [four.client() for _ in range(8)]
    statuses = [client.post("/v1/chat/completions", content=ASK).status_code for client in kept]
    victim = min(four.workers())

    with visitors(four) as asking:
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(four.events("gateway.listening")) == WORKERS + 1)
    after = [_status(client) for client in kept]
    for client in kept:
        client.close()

    assert statuses == [200] * 8
    assert [came for came in asking.came if came != 200][2:] == []  # what the victim had in hand, of two visitors
    assert after.count(200) >= 4
    assert four.stop() == 0


def _status(client: httpx.Client) -> int:
    try:
        return client.post("/v1/chat/completions", content=ASK).status_code
    except httpx.TransportError:
        return 0
