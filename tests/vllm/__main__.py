"""`make test-vllm`: the gateway against a real vLLM on this machine's CPU, and `vllm bench serve` as its witness.

Not a part of `make test`: it installs 3.4 GiB the first time (tests/vllm/installation.py) and takes some ten minutes.
"""

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.vllm import witness
from tests.vllm.installation import cache, install
from tests.vllm.stage import Served, serve

_CONFORMANCE = str(Path(__file__).with_name("conformance.py"))


class _Given:
    """Gives the tests what stands already."""

    def __init__(self, served: Served) -> None:
        self._served = served

    @pytest.fixture
    def served(self) -> Served:
        return self._served


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of the witness; 0 for none")
    parser.add_argument("--only", default="", help="run those conformance tests alone (pytest -k)")
    asked = parser.parse_args()
    print(
        f"test-vllm: needs 4 GiB of disk in {cache()}, 5 GiB of memory, and 10 to 20 minutes on two cores", flush=True
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is told to end takes its engines along
    if reason := install():
        sys.stderr.write(f"test-vllm: vLLM could not be installed: {reason}\n")
        return 2
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        status = _run(Path(folder), stack, asked.only, asked.rounds)
    print(f"test-vllm: {time.monotonic() - began_s:.0f} s after the installation", flush=True)
    return status


def _run(folder: Path, stack: ExitStack, only: str, rounds: int) -> int:
    try:
        served = serve(folder, stack)
        print("test-vllm: two engines and the gateway serve", flush=True)
        words = ["-v", "-p", "no:randomly", "-p", "no:cacheprovider", _CONFORMANCE, "-k", only]
        status = int(pytest.main(words, plugins=[_Given(served)]))
        return status or (0 if rounds < 1 else witness.testify(served, rounds))
    except (TimeoutError, AssertionError) as error:
        sys.stderr.write(f"test-vllm: {error}\n")
        sys.stderr.write((folder / "processes.log").read_text(errors="replace")[-4000:])
        return 1


if __name__ == "__main__":
    sys.exit(main())
