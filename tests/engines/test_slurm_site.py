"""The Slurm engine against a real Slurm: the promises of every engine.

REDOUBT_TEST_SLURM says where it is: JSON with `socket`, `token_file` and `read_file` (see SlurmBench).
"""

import json
import os
from pathlib import Path

import pytest

from tests.engines.benches import SlurmBench
from tests.engines.conformance import EngineConformance

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif("REDOUBT_TEST_SLURM" not in os.environ, reason="REDOUBT_TEST_SLURM names no Slurm"),
]


@pytest.fixture
def bench():
    where = json.loads(os.environ["REDOUBT_TEST_SLURM"])
    return SlurmBench(Path(where["socket"]), Path(where["token_file"]), tuple(where["read_file"]))


class TestSlurmEngine(EngineConformance):
    pass
