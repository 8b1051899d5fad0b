"""kill -9 at any moment: a line whose result was kept is not done again, and every line is done."""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import openai
import pytest
from openai.types import Batch

from controlplane.gateway.batch.result_log import LogFile
from controlplane.gateway.batch.sealed import Sealing
from controlplane.kit.tls import CertificateFiles, client_context
from tests.gateway.batch.office import KEEPS, a_line, counts
from tests.gateway.process import CONTENT_SECRET, GatewayProcess, StandInControlPlane, gateway_process, until
from tests.gateway.stage import KEY, Call, ScriptedReplica, Stage, key, snapshot
from tests.support.certificates import SiteCa, issue

LINES = 400
KILLS = 8
OVER = {"completed", "failed", "expired", "cancelled"}


@pytest.fixture(scope="session")
def zone_files(gateway_ca: SiteCa) -> CertificateFiles:
    return issue(gateway_ca, "batching", uri="redoubt://test/zone/eu-north/service/gateway")


@pytest.fixture
def gateway(tmp_path: Path, zone_files: CertificateFiles) -> Iterator[GatewayProcess]:
    control_plane = StandInControlPlane()
    with gateway_process(tmp_path, zone_files, control_plane) as process:
        yield process
    control_plane.go_away()


async def answer_slowly(call: Call) -> None:
    await asyncio.sleep(0.02)
    await call.answer()


@asynccontextmanager
async def client_of(gateway: GatewayProcess, files: CertificateFiles) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.DefaultAsyncHttpxClient(verify=client_context(files.ca), trust_env=False) as http:
        yield openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, http_client=http, max_retries=5)


async def submit(gateway: GatewayProcess, files: CertificateFiles, replica: ScriptedReplica) -> str:
    new = snapshot(1, (replica.spec,), (key(KEY),))
    gateway._control_plane.publish_snapshot(new.model_copy(update={"shares": (KEEPS,)}))  # noqa: SLF001 - its stand-in
    content = b"".join(a_line(f"line-{number}") for number in range(1, LINES + 1))
    await asyncio.to_thread(until, gateway.is_ready)
    async with client_of(gateway, files) as client:
        file = await client.files.create(file=("in.jsonl", content), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    return batch.id


async def has_sent(replica: ScriptedReplica, number: int) -> None:
    while len(replica.requests) < number:  # noqa: ASYNC110 - a script has nothing to wait on
        await asyncio.sleep(0.001)


def kept(folder: Path, batch_id: str) -> set[str]:
    """Return the lines whose results a dead gateway has kept."""
    (path,) = (folder / "state" / "content").rglob(f"{batch_id}.log")
    sealing = Sealing(sha256(CONTENT_SECRET.encode()).digest())
    file = LogFile(path, sealing, batch_id)
    found = {f"line-{entry.line}" for entry in file.open() if entry.is_result}
    file.close()
    return found


def asked(replica: ScriptedReplica, since: int = 0) -> list[str]:
    return [match[0] for r in replica.requests[since:] if (match := re.search(r"line-\d+", r.body.decode()))]


async def until_over(gateway: GatewayProcess, files: CertificateFiles, batch_id: str) -> tuple[Batch, list[str]]:
    """Return the batch at its end, and the names of its lines with an answer."""
    async with client_of(gateway, files) as client:
        for _ in range(1500):
            batch = await client.batches.retrieve(batch_id)
            if batch.status in OVER:
                content = (await client.files.content(batch.output_file_id or "")).text
                return batch, re.findall(r'"custom_id":"(line-\d+)"', content)
            await asyncio.sleep(0.02)
    raise AssertionError(f"{batch_id} is not over")


@pytest.mark.slow
async def test_a_killed_gateway_does_no_line_again_that_it_kept(
    stage: Stage, gateway: GatewayProcess, zone_files: CertificateFiles, tmp_path: Path
):
    replica = await stage.replica(answer_slowly)
    chance = random.Random(4)
    gateway.start()
    batch_id = await submit(gateway, zone_files, replica)

    for _ in range(KILLS):
        await has_sent(replica, len(replica.requests) + chance.randrange(1, 30))
        gateway.kill()
        done, sent = kept(tmp_path, batch_id), len(replica.requests)
        await asyncio.to_thread(gateway.start)
        await has_sent(replica, sent + 5)
        assert done.isdisjoint(asked(replica, since=sent))
    batch, names = await until_over(gateway, zone_files, batch_id)

    assert (batch.status, counts(batch)) == ("completed", (LINES, LINES, 0))
    assert sorted(names) == sorted({f"line-{number}" for number in range(1, LINES + 1)})
    assert len(replica.requests) < LINES + KILLS * 8  # what was under way, and no more


@pytest.mark.slow
async def test_a_worker_that_dies_hands_its_batches_to_another(
    stage: Stage, gateway: GatewayProcess, zone_files: CertificateFiles
):
    replica = await stage.replica(answer_slowly)
    gateway.start(workers=2)
    batch_id = await submit(gateway, zone_files, replica)

    for share in (1, 2):
        await has_sent(replica, LINES * share // 4)
        leader = await asyncio.to_thread(_leader, gateway)
        os.kill(leader, signal.SIGKILL)
    batch, names = await until_over(gateway, zone_files, batch_id)

    assert (batch.status, counts(batch)) == ("completed", (LINES, LINES, 0))
    assert len(names) == len(set(names)) == LINES


def _leader(gateway: GatewayProcess) -> int:
    """Return the worker that holds the lock."""
    lock = (gateway.folder / "state" / "content" / "leader.lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{lock}") and int(fields[4]) in gateway.workers():
            return int(fields[4])
    raise AssertionError("nobody leads")


@pytest.mark.slow
async def test_a_gateway_that_is_stopped_finishes_what_is_under_way_and_the_next_goes_on(
    stage: Stage, gateway: GatewayProcess, zone_files: CertificateFiles
):
    replica = await stage.replica(answer_slowly)
    gateway.start()
    batch_id = await submit(gateway, zone_files, replica)

    for share in (1, 2, 3):
        await has_sent(replica, LINES * share // 4)
        assert await asyncio.to_thread(gateway.stop) == 0
        await asyncio.to_thread(gateway.start)
    batch, _ = await until_over(gateway, zone_files, batch_id)

    assert counts(batch) == (LINES, LINES, 0)
    assert sorted(asked(replica)) == sorted(f"line-{number}" for number in range(1, LINES + 1))  # none twice
