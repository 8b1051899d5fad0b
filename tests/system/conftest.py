"""One practice site for all system tests: each leaves it as it found it.

REDOUBT_TEST_SITE names a site that stands already and stays, for work on the tests themselves.
"""

import os
from collections.abc import Iterator

import pytest
from practice.site import PracticeSite

SITE = "systest"


@pytest.fixture(scope="session")
def site() -> Iterator[PracticeSite]:
    """Bring a whole site up, and remove every trace of it at the end, also when bringing it up failed."""
    if standing := os.environ.get("REDOUBT_TEST_SITE"):
        yield PracticeSite(standing)
        return
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
