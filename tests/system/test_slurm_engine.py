"""The Slurm engine keeps the promises of every engine, against the site's own Slurm."""

from pathlib import Path

import pytest
from lab import machine
from practice.site import PracticeSite

from tests.engines.benches import SlurmBench
from tests.engines.conformance import EngineConformance

pytestmark = pytest.mark.system


@pytest.fixture
def bench(site: PracticeSite) -> SlurmBench:
    """Reach slurmrestd's socket and the token through the root of the control-plane node's first process."""
    run = Path(f"/proc/{machine.leader(site.lab.name, 'ctl1')}/root/run")
    read_file = (*site.lab.ssh_words("ctl1")[:-1], "{node}", "cat", "{path}")
    tokens = run / "redoubt-slurm"
    return SlurmBench(run / "slurmrestd" / "slurmrestd.sock", tokens / "redoubt-serve", read_file, tokens=tokens)


class TestSlurmEngine(EngineConformance):
    pass
