import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from controlplane.gateway.shared_table import SharedTable, digest_in, digest_of

CLAIMS = 20_000
WORKER = """
import sys
from pathlib import Path
from controlplane.gateway.shared_table import SharedTable
path, number, claims = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
table = SharedTable(path, buckets=claims)  # room for all: none may be forgotten
print(flush=True)
sys.stdin.read()
sys.stdout.buffer.write(bytes(table.claim(n, number, 1.0, lasts_s=9.0)[0] for n in range(claims)))
"""
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
    with ExitStack() as stack:
        workers = [stack.enter_context(_start(tmp_path / "runs", number)) for number in range(4)]
        pipes = [(worker.stdin, worker.stdout) for worker in workers if worker.stdin and worker.stdout]
        assert len(pipes) == 4
        for _, said in pipes:
            said.readline()
        for asked, _ in pipes:
            asked.close()
        results = [said.read() for _, said in pipes]

    disputed = [claim for claim, values in enumerate(zip(*results, strict=True)) if len(set(values)) > 1]
    assert [len(result) for result in results] == [CLAIMS] * 4
    assert disputed == []


def _start(path: Path, number: int) -> subprocess.Popen[bytes]:
    """Start a worker that says when it is ready, waits for the end of its input, and claims all digests."""
    command = [sys.executable, "-c", WORKER, str(path), str(number), str(CLAIMS)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_entries_outlive_the_processes(tmp_path):
    first = SharedTable(tmp_path / "runs", buckets=16)
    first.put(DIGEST, 7, at_s=100.0)
    first.close()

    again = SharedTable(tmp_path / "runs", buckets=16)

    assert again.get(DIGEST) == (7, 100.0)
    again.close()


def test_a_flood_of_one_owner_pushes_out_nothing_of_another(table):
    few = [digest_in("blue", f"run-{n}") for n in range(16)]
    for digest in few:
        table.put(digest, 1, at_s=100.0)

    for n in range(3000):
        table.put(digest_in("red", f"run-{n}"), 2, at_s=200.0 + n)

    assert [table.get(digest) for digest in few] == [(1, 100.0)] * 16
    later = digest_in("green", "run-1")
    assert table.claim(later, 3, at_s=100.0, lasts_s=60.0) == (3, True)
    assert table.get(later) == (3, 100.0)


def test_what_is_over_gives_way_before_what_lives(table):
    strangers = [16 * n + (n << 40) for n in range(1, 9)]  # a bucket of owners that have one each
    for digest in strangers:
        table.put(digest, 1, at_s=100.0)
    ours = [digest for n in range(400) if not (digest := digest_in("blue", f"run-{n}")) % 16][:8]

    for n, digest in enumerate(ours):
        table.claim(digest, 2, at_s=1000.0 + n, lasts_s=600.0)

    assert [table.get(digest) for digest in ours] == [(2, 1000.0 + n) for n in range(8)]


def test_owners_have_their_own_digests():
    ours, theirs = digest_in("blue", "run-1", "chat"), digest_in("red", "run-1", "chat")

    assert ours == digest_in("blue", "run-1", "chat") != theirs
    assert ours != digest_in("blue", "run-2", "chat")
    assert 0 <= ours < 1 << 64
