"""Run a program of the machine that builds; failures name the step, the last words and the way forward."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from controlplane.kit.errors import Unavailable

LAST_WORDS = 3


def run(argv: Sequence[str], step: str, *, cwd: Path | None = None, may_fail: bool = False) -> bytes:
    """Return standard output; raises Unavailable when the program is missing, or fails and may not."""
    try:
        done = subprocess.run(list(argv), cwd=cwd, capture_output=True, check=False)
    except FileNotFoundError:
        raise Unavailable(f"{argv[0]} is not installed", remedy=f"install it and repeat; needed to {step}") from None
    if done.returncode and not may_fail:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        last = " / ".join(said.splitlines()[-LAST_WORDS:]) or f"exit status {done.returncode}"
        raise Unavailable(f"could not {step}: {last}", remedy="correct the cause above and repeat the command")
    return done.stdout
