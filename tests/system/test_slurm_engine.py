"""The Slurm engine keeps the promises of every engine, against the site's own Slurm."""

import pytest

from tests.engines.conformance import EngineConformance

pytestmark = pytest.mark.system


class TestSlurmEngine(EngineConformance):
    pass
