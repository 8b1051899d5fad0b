"""The process itself: its start without a control plane, its workers, its end."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from controlplane.kit.tls import CertificateFiles
from tests.gateway.process import GatewayProcess, ReplicaThread, StandInControlPlane, gateway_process, until
from tests.gateway.stage import ASK, COMPLETION, STREAMED, Call
from tests.support.certificates import SiteCa, make_issuer
from tests.support.machine_listener import HOURS, Machines


def chat(gateway: GatewayProcess, body: bytes = ASK) -> httpx.Response:
    with gateway.client() as client:
        return client.post("/v1/chat/completions", content=body)


def test_a_gateway_without_a_snapshot_is_alive_and_refuses_everything_else(gateway: GatewayProcess):
    gateway.start()

    answers = [gateway.get("/readyz"), gateway.get("/v1/models"), chat(gateway)]

    assert [a.status_code for a in answers] == [503] * 3
    assert {a.json()["error"]["code"] for a in answers} == {"no_valid_snapshot"}
    assert gateway.is_alive()
    assert gateway.stop() == 0


def test_a_killed_gateway_serves_again_from_its_file_while_the_control_plane_is_away(
    gateway: GatewayProcess, replica: ReplicaThread, tmp_path: Path, gateway_files: CertificateFiles
):
    gone = StandInControlPlane()
    with gateway_process(tmp_path, gateway_files, gone) as first:
        gone.publish(replica.replica.spec)
        first.start()
        until(first.is_ready)
        until((tmp_path / "state/snapshot.json").exists)
        gone.go_away()
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()

        first.start()

        assert first.is_ready()
        assert chat(first).content == COMPLETION


def test_a_change_of_the_snapshot_arrives_within_a_poll(
    gateway: GatewayProcess, replica: ReplicaThread, control_plane: StandInControlPlane
):
    control_plane.publish(replica.replica.spec)
    gateway.start()
    until(gateway.is_ready)
    before = chat(gateway).status_code

    control_plane.publish()
    until(lambda: chat(gateway).status_code == 503)

    assert before == 200


def test_a_snapshot_comes_over_mutual_tls(tmp_path: Path, gateway_files: CertificateFiles, replica: ReplicaThread):
    stand_in = StandInControlPlane(gateway_files)
    stand_in.publish(replica.replica.spec)
    with gateway_process(tmp_path, gateway_files, stand_in) as gateway:
        gateway.start()
        until(gateway.is_ready)

        assert chat(gateway).status_code == 200
    stand_in.go_away()


def test_a_gateway_whose_own_certificate_lapsed_while_the_control_plane_is_away_serves_on(
    gateway: GatewayProcess,
    control_plane: StandInControlPlane,
    replica: ReplicaThread,
    tmp_path: Path,
    gateway_ca: SiteCa,
):
    """Its clients meet another certificate; the one that lapsed is what runs see, and they know it."""
    machines = Machines(tmp_path, make_issuer(gateway_ca), 0)
    lapsed = machines.leaf("redoubt://test/zone/north/service/gateway", age=100 * HOURS)
    gateway.own_files = CertificateFiles(lapsed.certificate, lapsed.key, gateway_ca.path)
    control_plane.publish(replica.replica.spec)
    gateway.start()
    until(gateway.is_ready)
    control_plane.go_away()

    assert chat(gateway).status_code == httpx.codes.OK


def test_a_gateway_that_is_told_to_stop_finishes_its_streams_first(
    gateway: GatewayProcess, control_plane: StandInControlPlane, tmp_path: Path, gateway_files: CertificateFiles
):
    go_on = asyncio.Event()

    async def talk(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        await go_on.wait()
        await call.event("two")
        await call.end_stream()

    slow = ReplicaThread(gateway_files.ca, talk)
    control_plane.publish(slow.replica.spec)
    gateway.start()
    until(gateway.is_ready)
    with gateway.client() as client, client.stream("POST", "/v1/chat/completions", content=STREAMED) as stream:
        lines = stream.iter_lines()
        first = next(lines)
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: not gateway.is_alive())
        slow.call(go_on.set)
        rest = [line for line in lines if line]
    slow.stop()

    assert "one" in first
    assert "two" in rest[0]
    assert rest[-1] == "data: [DONE]"
    assert gateway.process.wait(10) == 0


def test_workers_share_a_port_and_a_dead_one_is_replaced(
    gateway: GatewayProcess, replica: ReplicaThread, control_plane: StandInControlPlane
):
    control_plane.publish(replica.replica.spec)
    gateway.start(workers=2)
    until(lambda: len(gateway.workers()) == 2 and len(gateway.events("snapshot.accepted")) == 2)
    before = gateway.workers()

    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(gateway.workers() - {victim}) == 2)
    until(lambda: len(gateway.events("gateway.listening")) == 3)
    answers = [chat(gateway).status_code for _ in range(10)]

    assert answers == [200] * 10
    assert len(gateway.events("worker.died")) == 1
    assert gateway.stop() == 0


def test_one_port_tells_the_metrics_of_all_workers_and_a_killed_one_takes_none_along(
    gateway: GatewayProcess, replica: ReplicaThread, control_plane: StandInControlPlane
):
    def answered() -> float:
        page = httpx.get(f"http://127.0.0.1:{gateway.metrics_port}/metrics", trust_env=False).text
        lines = [line for line in page.splitlines() if line.startswith("redoubt_requests_total")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def kept() -> int:
        places = (gateway.folder / "state/metrics").glob("*.json")
        series = [one for place in places for one in json.loads(place.read_bytes())["series"]]
        return sum(sum(one["results"].values()) for one in series)

    control_plane.publish(replica.replica.spec)
    gateway.start(workers=2)
    until(lambda: len(gateway.workers()) == 2 and len(gateway.events("snapshot.accepted")) == 2)
    assert [chat(gateway).status_code for _ in range(12)] == [200] * 12
    until(lambda: answered() == 12)
    until(lambda: kept() == 12)  # a kill takes the last second of what was counted; records are the spool's

    os.kill(min(gateway.workers()), signal.SIGKILL)
    until(lambda: len(gateway.events("gateway.listening")) == 3)

    until(lambda: answered() == 12)
    assert chat(gateway).status_code == 200
    until(lambda: answered() == 13)


def test_a_metrics_port_that_another_has_keeps_no_request_from_being_served(
    gateway: GatewayProcess, replica: ReplicaThread, control_plane: StandInControlPlane
):
    control_plane.publish(replica.replica.spec)
    with socket.socket() as other:
        other.bind(("127.0.0.1", gateway.metrics_port))
        other.listen()
        gateway.start()
        until(gateway.is_ready)

        assert chat(gateway).status_code == 200
        assert gateway.events("metrics.not_served")
    assert gateway.stop() == 0


def test_workers_do_not_outlive_a_killed_parent(gateway: GatewayProcess):
    gateway.start(workers=2)
    until(lambda: len(gateway.events("gateway.listening")) == 2)
    workers = gateway.workers()

    gateway.process.kill()
    gateway.process.wait()

    until(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in workers))


def test_an_address_that_is_taken_is_one_clear_message(gateway: GatewayProcess):
    with socket.socket() as other:
        other.bind(("127.0.0.1", gateway.port))
        other.listen()
        ran = run_to_its_end(gateway.write_settings())

    assert ran.returncode == 1
    assert f"cannot listen on 127.0.0.1:{gateway.port}" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_wrong_settings_are_one_clear_message(gateway: GatewayProcess, tmp_path: Path):
    settings = gateway.write_settings()
    for wrong, named in (("workers = 0", "workers"), ("wrokers = 1", "wrokers")):
        path = tmp_path / "wrong.toml"
        path.write_text(settings.read_text().replace("workers = 1", wrong))

        ran = run_to_its_end(path)

        assert ran.returncode == 2
        assert named in ran.stderr
        assert "Traceback" not in ran.stderr


def test_a_key_file_that_is_missing_is_one_clear_message(gateway: GatewayProcess, tmp_path: Path):
    settings = gateway.write_settings()
    (tmp_path / "snapshot.pub").unlink()

    ran = run_to_its_end(settings)

    assert ran.returncode == 2
    assert "snapshot_public_key" in ran.stderr


def run_to_its_end(settings: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "controlplane.main.gateway", "--config", str(settings)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
