from array import array
from dataclasses import dataclass, field

import pytest

from controlplane.gateway.node_page import RING, make_memory
from controlplane.gateway.routing.neighbours import NodeNeighbours
from controlplane.gateway.routing.prefix import BLOCK_BYTES
from controlplane.gateway.routing.standing import Standing
from tests.bench.affinity_model import Load
from tests.bench.affinity_simulated import optimum_of, run
from tests.support.pages import PageInProcess

MARKS = tuple(range(1 << 60, (1 << 60) + 12))


@dataclass
class Candidate:
    name: str
    home_seed: int = 1
    standing: Standing = field(default_factory=Standing)


class Worker:
    def __init__(self, memory: int, taken: set[int]) -> None:
        self.page = PageInProcess(memory, taken)
        self.neighbours = NodeNeighbours(self.page)
        self.now = 1.0
        self.replicas = [Candidate(name) for name in ("a", "b")]
        for replica in self.replicas:
            self.neighbours.join(replica.name, replica.standing)

    def look(self) -> None:
        self.now += 1.0
        self.neighbours.look(self.replicas, self.now)

    def held(self) -> list[int]:
        self.look()
        return [replica.standing.mirror.held(MARKS) for replica in self.replicas]

    def tell(self, number: int, *marks: int) -> None:
        self.neighbours.tell(self.replicas[number].standing, marks, len(marks) * BLOCK_BYTES)


@pytest.fixture
def workers() -> list[Worker]:
    memory, taken = make_memory(), set[int]()
    workers = [Worker(memory, taken) for _ in range(3)]
    for worker in workers:
        worker.page.look()
        worker.look()
    return workers


def test_what_one_worker_lets_a_replica_read_the_others_believe_to_be_held_there(workers: list[Worker]):
    workers[0].tell(1, *MARKS)

    assert [worker.held() for worker in workers[1:]] == [[0, 12], [0, 12]]
    assert workers[1].replicas[1].standing.worked(workers[1].now) == 12 * BLOCK_BYTES


def test_a_worker_counts_what_the_others_run_and_no_longer_when_they_are_dead(workers: list[Worker]):
    for worker, running in zip(workers, (1, 2, 4), strict=True):
        standing = worker.replicas[0].standing
        standing.running, standing.prefilling = running, 100 * running
        standing.tell()
    first = workers[0].replicas[0].standing

    workers[0].look()
    assert (first.running_elsewhere, first.prefilling_elsewhere) == (6, 600)
    workers[1].page.close()
    workers[0].page.look()
    workers[0].look()
    assert (first.running_elsewhere, first.prefilling_elsewhere) == (4, 400)


def test_a_busy_endpoint_keeps_no_other_from_counting(workers: list[Worker]):
    busy, calm = workers[0].replicas
    standing = workers[1].replicas[1].standing
    for running in (3, 0):
        standing.running = running
        standing.tell()
        workers[0].now += 1.0
        workers[0].neighbours.look([busy], workers[0].now)
        workers[0].neighbours.look([calm], workers[0].now)

        assert calm.standing.running_elsewhere == running


def test_a_worker_that_slept_misses_the_oldest_and_hears_the_newest(workers: list[Worker]):
    for number in range(RING):
        workers[0].tell(0, number)
    assert workers[1].held() == [0, 0]

    workers[0].tell(1, *MARKS)

    assert workers[1].held() == [0, 12]


def test_much_that_was_told_is_heard_in_parts(workers: list[Worker]):
    for number in range(500):
        workers[0].tell(0, number)
    workers[0].tell(1, *MARKS)

    looks = [workers[1].held()[1] for _ in range(4)]

    assert looks == [0, 0, 12, 12]


@pytest.mark.parametrize(
    "torn",
    [(5,), (0, 0), (-7, 1, 2, 3), (6, 0, 1, 99, *MARKS), (8, 1, 1, 1, 1, 1, 1, 1), (4, hash((2, 99)), 1, 99)],
)
def test_what_is_torn_is_passed_over(workers: list[Worker], torn: tuple[int, ...]):
    workers[0].page.put(array("q", torn))
    assert workers[1].held() == [0, 0]

    workers[0].tell(0, *MARKS)

    assert workers[1].held() == [12, 0]


def test_a_replica_that_is_gone_is_neither_told_of_nor_heard(workers: list[Worker]):
    gone = workers[0].replicas[0].standing
    gone.running = 5
    gone.tell()
    workers[0].neighbours.part(gone)
    gone.running = 6
    gone.tell()
    workers[1].tell(0, *MARKS)

    workers[1].look()
    workers[0].look()

    assert workers[1].replicas[0].standing.running_elsewhere == 0
    assert gone.mirror.held(MARKS) == 0


def test_two_workers_find_as_much_of_the_caches_as_one():
    load = Load(40, 5, seconds=30, answer_tokens=16)
    best = optimum_of(load)

    one, two, apart = run(load, 1), run(load, 2), run(load, 2, told=False)

    assert one.hit / best > 0.97
    assert two.hit > one.hit - 0.01
    assert apart.hit < one.hit - 0.03
