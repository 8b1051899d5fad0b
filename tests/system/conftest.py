"""One practice site for all system tests: each leaves it as it found it.

REDOUBT_TEST_SITE names a site that stands already and stays, for work on the tests themselves.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import machine
from practice.site import PracticeSite

from tests.engines.benches import SlurmBench

SITE = "systest"


@pytest.fixture(scope="session")
def site() -> Iterator[PracticeSite]:
    """Bring a whole site up, and remove every trace of it at the end, also when bringing it up failed."""
    if standing := os.environ.get("REDOUBT_TEST_SITE"):
        yield PracticeSite(standing)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is told to end takes its site along
    with Path("/run/redoubt-systest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs on one machine take turns
        yield from _whole_site()


@pytest.fixture
def bench(site: PracticeSite) -> SlurmBench:
    """Reach slurmrestd's socket and the tokens through the root of the control-plane node's first process."""
    run = Path(f"/proc/{machine.leader(site.lab.name, 'ctl1')}/root/run")
    read_file = (*site.lab.ssh_words("ctl1")[:-1], "{node}", "cat", "{path}")
    tokens = run / "redoubt-slurm"
    return SlurmBench(run / "slurmrestd" / "slurmrestd.sock", tokens / "redoubt-serve", read_file, tokens=tokens)


def _whole_site() -> Iterator[PracticeSite]:
    made = PracticeSite(SITE)
    made.lab.down()
    try:
        made.prepare()
        made.boot()
        made.install()
        made.deploy()
        yield made
    finally:
        made.lab.down()
