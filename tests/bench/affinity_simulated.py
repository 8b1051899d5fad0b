"""The gateway's own choice in simulated time, by several workers: `python -m tests.bench.affinity_simulated`.

It prints what each number of workers finds of the caches, as `tests.bench.affinity` does for real processes.
"""

import os
import random
from collections.abc import Callable
from statistics import mean

from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.node_page import make_memory
from controlplane.gateway.routing.choose import Wish, choose_replica
from controlplane.gateway.routing.neighbours import NodeNeighbours, NoNeighbours
from controlplane.gateway.routing.prefix import read_prefix
from controlplane.gateway.routing.router import Visit
from controlplane.gateway.routing.runs import LocalRuns
from controlplane.gateway.routing.standing import Standing
from controlplane.gateway.shared_table import digest_of
from tests.bench.affinity_model import SYSTEM_BYTES, TOKEN_BYTES, Engine, Load, Result, Turn, simulate
from tests.support.pages import PageInProcess

ENGINES = 4
SHARE = 0.44  # of what all live chats hold, in one engine's cache


class Candidate:
    def __init__(self, number: int) -> None:
        self.number = number
        self.home_seed = digest_of(f"replica_{number}")
        self.standing = Standing()


class Worker:
    """What a visit needs of its process; `tick` is the simulation's time."""

    def __init__(self, page: PageInProcess | None) -> None:
        self.tick = 0.0
        self.runs = LocalRuns()
        self.neighbours = NodeNeighbours(page) if page is not None else NoNeighbours()
        self.replicas = [Candidate(number) for number in range(ENGINES)]
        for replica in self.replicas:
            self.neighbours.join(str(replica.number), replica.standing)

    def time(self) -> float:
        return self.tick

    def send(self, turn: Turn, now_s: float) -> tuple[int, Callable[[float], None], Callable[[float, int, int], None]]:
        """Choose as the gateway does; return the engine, and what to call at the first byte and at the end."""
        self.tick = now_s
        self.neighbours.look(self.replicas, now_s)
        wish = Wish(read_prefix([b"".join(turn.messages)], b"%d" % turn.tenant))
        chosen = choose_replica(self.replicas, wish, now_s)
        assert chosen is not None
        replica, held = chosen
        visit = Visit(replica, wish, held, self)  # type: ignore[arg-type]  # a replica without a network

        def end(_at_s: float, cached: int, tokens: int) -> None:
            visit.leave()
            visit.learn(Usage(tokens_in=tokens, tokens_cached=cached))

        return replica.number, lambda _at_s: visit.heard(), end


def cache_tokens_of(load: Load) -> int:
    """Return the size of one engine's cache."""
    chats = load.users * load.turns * load.turn_bytes / 2
    return int(SHARE * load.tenants * (SYSTEM_BYTES + chats) / TOKEN_BYTES)


def optimum_of(load: Load) -> float:
    """Return what one endless cache would hold of all prompts."""
    return simulate(load, [Engine(10**12)], lambda _turn, _now: (0, lambda _at: None, lambda *_: None)).hit


def run(load: Load, workers: int, *, told: bool = True) -> Result:
    """Let the workers take turns by chance. Unless they are `told`, each knows of its own requests alone."""
    memory, taken, chance = make_memory(), set[int](), random.Random(load.seed)
    pages = [PageInProcess(memory, taken) if told and workers > 1 else None for _ in range(workers)]
    for page in pages:
        if page is not None:
            page.look()
    crowd = [Worker(page) for page in pages]
    for worker in crowd:
        worker.neighbours.look([], -1.0)
    engines = [Engine(cache_tokens_of(load)) for _ in range(ENGINES)]
    result = simulate(load, engines, lambda turn, now_s: chance.choice(crowd).send(turn, now_s))
    os.close(memory)
    return result


def main() -> None:
    loads = [Load(40, users, answer_tokens=16, seed=seed) for seed in (1, 2, 3) for users in (5, 10)]
    for workers, told in ((1, True), (2, True), (4, True), (2, False), (4, False)):
        results = [(run(load, workers, told=told), optimum_of(load)) for load in loads]
        of_optimum, busiest = mean(r.hit / best for r, best in results), mean(r.busiest for r, _ in results)
        p50, p99 = (mean(r.ttft_ms(quantile) for r, _ in results) for quantile in (0.5, 0.99))
        name = f"{workers} workers{'' if told else ' that tell nothing'}"
        print(f"{name:30} of_optimum {of_optimum:.3f}  busiest {busiest:.2f}  ttft_ms {p50:.0f} {p99:.0f}", flush=True)


if __name__ == "__main__":
    main()
