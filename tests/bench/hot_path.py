"""What the gateway's own code costs a request and a streamed event: `python -m tests.bench.hot_path [--profile]`.

No socket, no disk, no second process: prepared bytes go through the same connection, exchange and link objects, and
every line of the spool is made but not written. The figure is processor time, the least of many repetitions, and
holds still on a busy machine.
"""

import argparse
import asyncio
import cProfile
import pstats
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from controlplane.contracts.budgets import Allotment
from controlplane.contracts.snapshot import SnapshotReplica
from controlplane.gateway.budget.accounts import Accounts
from controlplane.gateway.budget.ledger import Ledger
from controlplane.gateway.budget.retries import Retries
from controlplane.gateway.client_connection import ClientConnection
from controlplane.gateway.hub import Hub
from controlplane.gateway.limits import Limits
from controlplane.gateway.link import Link
from controlplane.gateway.node_page import make_memory
from controlplane.gateway.records import Chain, Denial, Intent, Outcome
from controlplane.gateway.replica import Replica
from controlplane.gateway.routing.neighbours import NodeNeighbours
from controlplane.gateway.routing.runs import SharedRuns
from controlplane.gateway.shared_table import SharedTable
from controlplane.gateway.spool import Waiter
from controlplane.kit.clock import SystemClock
from tests.bench.load import request
from tests.bench.measured_site import KEY, snapshot
from tests.bench.mock_engine import EVENTS, LAST, PLAIN, STREAM, STREAM_HEAD
from tests.support.pages import PageInProcess

_REPETITIONS = 40
_REQUESTS = 200
_PLENTY = 2**52
_TURNS = count()


class Wire:
    """A transport that keeps nothing."""

    turn = -1

    def write(self, data: bytes) -> None:
        self.wrote = data
        self.turn = next(_TURNS)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)


class Lines:
    """A journal whose disk costs nothing."""

    def __init__(self) -> None:
        self._chain = Chain()

    def intend(self, intent: Intent, waiter: Waiter) -> None:
        self._chain.add(intent)
        waiter.recorded()

    def note(self, record: Outcome | Denial) -> None:
        self._chain.add(record)


class Bench:
    """One client, a link to every replica, and everything between them.

    Where there are several replicas, there is a second worker too, that says nothing.
    """

    def __init__(self, folder: Path, replicas: int = 1) -> None:
        journal: Any = Lines()
        self._hub = Hub(limits=Limits(), clock=SystemClock(), context_for=lambda _: None, journal=journal)
        if replicas > 1:
            self._hub.neighbours = _beside_another_worker()
        specs = [
            SnapshotReplica(replica_id=f"replica_{number}", host="127.0.0.1", port=9, certificate_pem="")
            for number in range(replicas)
        ]
        self._hub.adopt(snapshot(tuple(specs)))
        self._hub.runs = SharedRuns(SharedTable(folder / "runs"))
        self._ledger = self._hub.budgets = Ledger(
            Accounts("0" * 32),
            clock=self._hub.clock,
            now_s=self._hub.time,
            wake=lambda: None,
            soon=asyncio.get_running_loop().call_soon,
            retries=Retries(SharedTable(folder / "retries", buckets=1 << 12), self._hub.wall_s),
            count=lambda _request, _counted: None,
            is_leaving=lambda: False,
        )
        wire: Any = Wire()
        self._client, self._wire = ClientConnection(self._hub), wire
        self._client.connection_made(wire)
        self._links = [self._make_link(replica) for replica in _replicas(self._hub)]

    def _make_link(self, replica: Replica) -> tuple[Link, Wire]:
        link, wire = Link(replica, self._hub.limits.answer_bytes), Wire()
        link._transport = wire  # type: ignore[assignment]  # noqa: SLF001 - connected without a socket
        replica.link_freed(link)
        return link, wire

    @property
    def _link(self) -> Link:
        """The link that was written to last."""
        if len(self._links) == 1:
            return self._links[0][0]
        return max(self._links, key=lambda pair: pair[1].turn)[0]

    async def grant(self) -> None:
        """Let the first request wait for its budgets, and grant so much that none waits again."""
        self._client.data_received(request(KEY, 600, stream=False))
        await asyncio.sleep(0.01)
        ask = self._ledger.ask()
        if ask is None:
            raise SystemExit("no budget binds the request")
        told = [
            Allotment(account=one.account, granted=_PLENTY, left=_PLENTY, elsewhere=0, at_best=_PLENTY)
            for one in ask.accounts
        ]
        self._ledger.hear(ask.number, told)
        await asyncio.sleep(0.01)
        self._link.data_received(PLAIN)

    def plain(self, prompt_bytes: int) -> Callable[[], int]:
        """Return what does many requests and says how many."""
        asked = request(KEY, prompt_bytes, stream=False)

        def run() -> int:
            for _ in range(_REQUESTS):
                self._client.data_received(asked)
                self._link.data_received(PLAIN)
            return _REQUESTS

        return run

    def stream(self) -> Callable[[], int]:
        """Return what passes many events and says how many; requests are a small part of it."""
        asked = request(KEY, 600, stream=True)

        def run() -> int:
            for _ in range(10):
                self._client.data_received(asked)
                link = self._link
                link.data_received(STREAM_HEAD)
                for event in STREAM:
                    link.data_received(event)
                link.data_received(LAST)
            return 10 * EVENTS

        return run

    @property
    def last_answer(self) -> bytes:
        return self._wire.wrote


def _beside_another_worker() -> NodeNeighbours:
    """Return what this process and one more tell each other; the other has nothing to say."""
    memory, taken = make_memory(), set[int]()
    PageInProcess(memory, taken)
    return NodeNeighbours(PageInProcess(memory, taken))


def _replicas(hub: Hub) -> list[Replica]:
    return list(hub._replicas.values())  # noqa: SLF001 - what no client of the hub needs


def least_us(run: Callable[[], int]) -> float:
    """Return the least processor time of one, in microseconds."""
    found = []
    for _ in range(_REPETITIONS):
        began = time.thread_time_ns()
        done = run()
        found.append((time.thread_time_ns() - began) / done / 1e3)
    return min(found)


async def main(*, profile: bool) -> None:
    for replicas in (1, 4):
        with TemporaryDirectory() as folder:
            print(f"{replicas} replicas")
            await measure(Bench(Path(folder), replicas), profile=profile)


async def measure(bench: Bench, *, profile: bool) -> None:
    await bench.grant()
    works = {"plain": bench.plain(600), "plain 32 kB": bench.plain(32_000), "event": bench.stream()}
    for name, run in works.items():
        run()
        if not bench.last_answer.startswith((b"HTTP/1.1 200", b"0")):
            raise SystemExit(f"no answer but {bench.last_answer[:300]!r}")
        print(f"{name}: {least_us(run):.2f} us")
    if profile:
        with cProfile.Profile() as profiler:
            for _ in range(20):
                works["plain"]()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="say where the time of a plain request goes")
    uvloop.run(main(profile=parser.parse_args().profile))
