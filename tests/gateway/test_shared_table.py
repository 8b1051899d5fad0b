import os
from pathlib import Path

import pytest

from controlplane.gateway.shared_table import SharedTable, digest_of

CLAIMS = 20_000
DIGEST = digest_of("run", "r1")


@pytest.fixture
def table(tmp_path: Path):
    table = SharedTable(tmp_path / "runs", buckets=16)
    yield table
    table.close()


def test_what_one_worker_puts_another_reads(table, tmp_path):
    other = SharedTable(tmp_path / "runs", buckets=16)

    table.put(DIGEST, 7, at_s=100.0)

    assert other.get(DIGEST) == (7, 100.0)
    assert other.get(DIGEST + 1) is None
    other.close()


def test_the_first_claim_sets_the_value_and_each_claim_renews_it(table):
    assert table.claim(DIGEST, 7, at_s=100.0, lasts_s=60.0) == (7, True)
    assert table.claim(DIGEST, 8, at_s=150.0, lasts_s=60.0) == (7, False)
    assert table.claim(DIGEST, 8, at_s=200.0, lasts_s=60.0) == (7, False)

    assert table.claim(DIGEST, 8, at_s=260.0, lasts_s=60.0) == (8, True)


def test_a_full_bucket_forgets_its_oldest(table):
    digests = [16 * n for n in range(1, 10)]  # nine in a bucket of eight

    for at, digest in enumerate(digests):
        table.put(digest, digest, at_s=float(at))

    assert table.get(digests[0]) is None
    assert [table.get(digest) for digest in digests[1:]] == [(d, float(n)) for n, d in enumerate(digests) if n]


def test_a_slot_that_a_dying_worker_left_half_written_is_empty(table, tmp_path):
    table.put(DIGEST, 7, at_s=100.0)
    with (tmp_path / "runs.16").open("r+b") as file:
        file.seek(DIGEST % 16 * 256 + 8)
        file.write(b"\xff")

    assert table.get(DIGEST) is None
    assert table.claim(DIGEST, 9, at_s=101.0, lasts_s=60.0) == (9, True)


def test_of_many_workers_that_claim_at_once_one_wins(tmp_path):
    path = tmp_path / "runs"
    gate, opens = os.pipe()
    children = [_fork(path, worker, gate, opens) for worker in range(4)]
    os.close(opens)
    results = [_result(*child) for child in children]

    disputed = [claim for claim, values in enumerate(zip(*results, strict=True)) if len(set(values)) > 1]
    assert disputed == []


def _fork(path: Path, worker: int, gate: int, opens: int) -> tuple[int, int]:
    """Start a worker that waits until `opens` is closed everywhere, then claims all digests."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        table = SharedTable(path, buckets=CLAIMS)  # room for all: none may be forgotten
        os.close(opens)
        os.read(gate, 1)
        values = [table.claim(n, worker, 1.0, lasts_s=9.0)[0] for n in range(CLAIMS)]
        os.write(writing, bytes(values))
        os._exit(0)
    os.close(writing)
    return pid, reading


def _result(pid: int, reading: int) -> bytes:
    os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as file:
        return file.read()


def test_entries_outlive_the_processes(tmp_path):
    first = SharedTable(tmp_path / "runs", buckets=16)
    first.put(DIGEST, 7, at_s=100.0)
    first.close()

    again = SharedTable(tmp_path / "runs", buckets=16)

    assert again.get(DIGEST) == (7, 100.0)
    again.close()
