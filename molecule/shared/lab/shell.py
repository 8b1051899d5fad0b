"""Run host commands; a failure carries the command's own words."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable


def run(*argv: str, stdin: str | None = None, timeout_s: float = 60) -> str:
    """Run one command and return its output."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as missing:
        raise LabError(f"{argv[0]} is missing; install the packages of images/practice/host-packages.txt") from missing
    except subprocess.TimeoutExpired as late:
        raise LabError(f"`{' '.join(argv)}` did not finish within {timeout_s:g} s") from late
    if done.returncode:
        raise LabError(f"`{' '.join(argv)}` failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_until(ready: Callable[..., bool], *words: object, timeout_s: float, pause_s: float = 0.05) -> bool:
    """Poll until ready or out of time; say which."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if ready(*words):
            return True
        time.sleep(pause_s)
    return ready(*words)
