import os
import subprocess
import sys
from array import array
from collections.abc import Iterator

import pytest

from controlplane.gateway.node_page import RING, NodePage, make_memory
from tests.support.pages import PageInProcess

WORKER = """
import sys
from controlplane.gateway.node_page import NodePage
page = NodePage(int(sys.argv[1]))
page.words[page.own + page.claim("endpoint_a")] = 5
print("sits", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def memory() -> Iterator[int]:
    memory = make_memory()
    yield memory
    os.close(memory)


def seen(page: NodePage, name: str) -> int:
    at = page.claim(name)
    assert at is not None
    return sum(page.words[row + at] for row in page.others)


def test_a_worker_sees_what_the_others_say_and_a_dead_one_says_nothing(memory: int):
    page = NodePage(memory)
    command = [sys.executable, "-c", WORKER, str(memory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[memory]) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()

        page.look()
        assert seen(page, "endpoint_a") == 5
        assert seen(page, "endpoint_b") == 0
        worker.kill()
    assert seen(page, "endpoint_a") == 5
    page.look()
    page.release(page.claim("endpoint_a") or 0)
    assert page.others == []
    others = [page.claim(f"endpoint_{number}") for number in range(1023)]
    assert None not in others
    page.close()


def test_a_name_has_the_same_column_at_all_workers_until_nobody_uses_it(memory: int):
    taken: set[int] = set()
    one, other = PageInProcess(memory, taken), PageInProcess(memory, taken)
    names = [f"endpoint_{number}" for number in range(1024)]
    columns = {name: one.claim(name) for name in names}

    kept = other.claim(names[7])
    assert kept is not None
    assert kept == columns[names[7]]
    assert one.claim("one too many") is None
    for name in names[7:9]:
        one.release(columns[name] or 0)

    assert one.claim("one too many") == columns[names[8]]
    assert one.claim("still too many") is None
    other.release(kept)
    assert one.claim("still too many") == kept


def test_a_column_that_is_used_anew_begins_at_nothing(memory: int):
    taken: set[int] = set()
    one, other = PageInProcess(memory, taken), PageInProcess(memory, taken)
    other.look()
    one.look()
    at = one.claim("endpoint_a") or 0
    one.words[one.own + at] = 9

    one.release(at)

    assert seen(other, "endpoint_a") == 0


def test_a_ring_keeps_the_newest_words_over_its_end(memory: int):
    taken: set[int] = set()
    one, other = PageInProcess(memory, taken), PageInProcess(memory, taken)
    for number in range(1000):
        one.put(array("q", range(6 * number, 6 * number + 6)))

    head = other.head(one.own)

    assert head == 6000
    assert 6000 - RING < 4060 < RING < 4130
    assert other.read(one.own, 4060, 70) == list(range(4060, 4130))


def test_beyond_the_last_row_a_worker_is_alone(memory: int):
    taken: set[int] = set()
    pages = [PageInProcess(memory, taken) for _ in range(66)]
    last, first = pages[-1], pages[0]
    last.words[last.own + (last.claim("endpoint_a") or 0)] = 3

    first.look()

    assert len(first.others) == 63
    assert seen(first, "endpoint_a") == 0
