"""T9: `kill -9` at any moment loses no event that was acknowledged, and leaves no gap in the tree."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controlplane.kit.segments import read_tails
from tests.domains.audit.conftest import Log
from tests.support.source import ROOT

KILLS = 200
MOST_ACKNOWLEDGED = 12  # in one life before it is killed, so that a busy machine kills at the same points


@pytest.mark.slow
async def test_two_hundred_kills_lose_no_acknowledged_event(log: Log, database_url: str, tmp_path: Path):
    chance = random.Random(9)
    acknowledged, killed = kill_many(database_url, tmp_path, chance)
    await log.seal()

    entries = await log.entries()
    here = {event_id_of(body) for _, _, body in entries if body is not None}
    held = {
        event_id_of(line.decode()) for line in read_tails(tmp_path, files=KILLS + 1) if line.startswith(b'{"action"')
    }
    assert len(acknowledged) > KILLS
    assert acknowledged - here == set()
    assert here - held == set()
    assert [index for index, _, _ in entries] == list(range(len(entries)))
    assert len(here) == len(entries)
    assert killed == KILLS


def kill_many(url: str, segments: Path, chance: random.Random) -> tuple[set[str], int]:
    """Let a writer live and die many times; return what it acknowledged and how often it was killed."""
    acknowledged: set[str] = set()
    killed = 0
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.audit_writer", url, str(segments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=ROOT,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for life in range(KILLS):
            writer.stdin.write(f"life{life:04d}\n")
            pid = int(writer.stdout.readline().removeprefix("pid "))
            for _ in range(chance.randrange(MOST_ACKNOWLEDGED)):
                acknowledged.add(writer.stdout.readline().strip())
            time.sleep(chance.uniform(0.0, 0.01))
            os.kill(pid, signal.SIGKILL)
            killed += 1
            while (line := writer.stdout.readline().strip()) != "dead":
                acknowledged.add(line)
        writer.stdin.close()
    return acknowledged, killed


def event_id_of(body: str) -> str:
    return body.partition('"event_id":"')[2].partition('"')[0]
