"""A process that records events and says on standard output which were acknowledged, until it is killed."""

import asyncio
import os
import sys
from pathlib import Path

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.loops import SecondSink
from controlplane.domains.audit.types import SYSTEM
from controlplane.kit.clock import SystemClock
from controlplane.kit.segments import Ballast, SegmentWriter
from controlplane.kit.tx import Database

WRITERS = 4


async def live(url: str, segments: Path, name: str) -> None:
    database = Database(url, SystemClock(), pool=WRITERS)
    SecondSink(SegmentWriter(segments, name), Ballast(segments / "ballast", 0), lambda: True).attach(database)
    await asyncio.gather(*(write(database, f"{name}-{number}") for number in range(WRITERS)))


async def write(database: Database, resource: str) -> None:
    while True:
        async with database.transaction() as tx:
            await audit.record(tx, SYSTEM, "thing.happened", resource)
            event_id = tx.session.info[audit.ENTRIES][-1].event_id
        os.write(1, f"{event_id}\n".encode())  # only now is it acknowledged


def run_lives(url: str, segments: Path) -> None:
    """Live once for each line of standard input: a fork, so that a life costs milliseconds to begin."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(live(url, segments, line.strip()))
            os._exit(0)
        os.write(1, f"pid {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    run_lives(sys.argv[1], Path(sys.argv[2]))
