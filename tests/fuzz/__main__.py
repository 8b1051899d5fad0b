"""`make fuzz`: look for what breaks the gateway's readers, for ten minutes; the first find ends it with its example."""

import argparse
import logging
import sys
import time

import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("fuzz", deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
settings.load_profile("fuzz")  # before the targets are made

from tests.fuzz.targets import TARGETS  # noqa: E402 - as above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    end = time.monotonic() + 60 * parser.parse_args().minutes
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    rounds = 0
    while time.monotonic() < end:
        for target in TARGETS:
            target()
        rounds += 1
    sys.stdout.write(f"fuzz: {rounds} rounds of {len(TARGETS)} targets with 500 examples each, nothing found\n")


if __name__ == "__main__":
    main()
