"""make bench-audit: what it costs to record, each against the raw cost on the same machine.

Append: events through the second sink, one fsync each and grouped, against bare write-and-fsync of the same bytes on
the same disk, in turns. Verify: the verifier over a log of EVENTS, against SHA-256 over the same bytes.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

from controlplane.kit.segments import SegmentWriter
from controlplane.verifier import redoubt_verify
from tests.support.audit_export import MadeLog, entry_of

GROUP = 100  # events that wait at the same time
ROUNDS = 7


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--events", type=int, default=200_000, help="of the log that is verified")
    asked.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder's")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        append(Path(folder))
        verify(Path(folder), options.events)


def append(folder: Path) -> None:
    """Print rates of events, in turns with the bare fsyncs, so that a noisy minute is in both."""
    line = entry_of(1).encode()
    rates: dict[str, list[float]] = {"bare": [], "alone": [], "bare group": [], "grouped": []}
    data = (line + b"\n") * GROUP
    for number in range(ROUNDS):
        bare, group = folder / f"bare-{number}", folder / f"bare-group-{number}"
        rates["bare"].append(_rate(200, partial(_bare, bare, line + b"\n", 200)))
        rates["alone"].append(_rate(200, partial(_append, folder, f"alone-{number}", line, 200, 1)))
        rates["bare group"].append(_rate(100 * GROUP, partial(_bare, group, data, 100)))
        rates["grouped"].append(_rate(100 * GROUP, partial(_append, folder, f"grouped-{number}", line, 100, GROUP)))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    alone = statistics.median(a / b for a, b in zip(rates["alone"], rates["bare"], strict=True))
    grouped = statistics.median(a / b for a, b in zip(rates["grouped"], rates["bare group"], strict=True))
    print(f"an event of {len(line)} bytes; median of {ROUNDS} rounds")
    print(f"append, one fsync each      {middle['alone']:>10,.0f} /s   bare {middle['bare']:>10,.0f} /s   {alone:.2f}")
    print(
        f"append, {GROUP} share one      {middle['grouped']:>10,.0f} /s   bare {middle['bare group']:>10,.0f} /s"
        f"   {grouped:.2f} (goal 0.50)"
    )


def verify(folder: Path, events: int) -> None:
    """Print seconds per million events, wall and CPU, and the ratio to hashing the same bytes twice."""
    log = MadeLog([entry_of(number) for number in range(events)], (*range(1000, events, 1000), events))
    log.witnessed = False
    target = QuickLog(log).export(folder / "log")
    size = (target / "entries.jsonl").stat().st_size
    wall, cpu = time.perf_counter(), time.process_time()
    if redoubt_verify.main([str(target)]) != 0:
        raise SystemExit("the verifier does not believe a whole log")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    raw = time.process_time()
    for body in log.bodies:
        sha256(b"\x00" + body.encode()).digest()
        sha256(b"\x01" * 65).digest()
    raw = time.process_time() - raw
    million = 1_000_000 / events
    print(f"verify {events:,} events ({size / events:.0f} bytes each, {len(log.checkpoint_at)} checkpoints)")
    print(f"  per million {wall * million:.1f} s wall, {cpu * million:.1f} s CPU (goal 10)")
    print(f"  SHA-256 of the same leaves and nodes {raw * million:.1f} s CPU: {cpu / raw:.1f} times that")


class QuickLog:
    """The same export, its roots by one pass: MadeLog hashes the tree anew for each checkpoint."""

    def __init__(self, log: MadeLog) -> None:
        self._log = log
        self._roots: dict[int, bytes] = {}
        tree, wanted = redoubt_verify.Tree(), set(log.checkpoint_at)
        for body in log.bodies:
            tree.add(sha256(b"\x00" + body.encode()).digest())
            if tree.size in wanted:
                self._roots[tree.size] = tree.root()
        log.root = lambda span: self._roots[span.end]  # type: ignore[method-assign]  # of spans from 0 only

    def export(self, folder: Path) -> Path:
        return self._log.export(folder)


def _rate(events: int, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return events / (time.perf_counter() - began)


def _bare(path: Path, data: bytes, times: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for _ in range(times):
        os.write(file, data)
        os.fdatasync(file)
    os.close(file)


def _append(folder: Path, name: str, line: bytes, times: int, at_once: int) -> None:
    asyncio.run(_append_in_turns(folder, name, line, times, at_once))


async def _append_in_turns(folder: Path, name: str, line: bytes, times: int, at_once: int) -> None:
    writer = SegmentWriter(folder, name)

    async def act() -> None:
        for _ in range(times):
            await writer.append([line])

    await asyncio.gather(*(act() for _ in range(at_once)))
    await writer.close()


if __name__ == "__main__":
    main()
