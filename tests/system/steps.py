"""What the system tests do again and again."""

import subprocess
import time
from collections.abc import Callable

from lab.errors import LabError
from practice.site import PracticeSite


def wait_for(holds: Callable[[], bool], what: str, *, within_s: float = 90) -> float:
    """Return the seconds until `holds`; fails with the name of what was waited for. A failing command is a no."""
    began = time.monotonic()
    while time.monotonic() - began < within_s:
        try:
            if holds():
                return time.monotonic() - began
        except (LabError, subprocess.TimeoutExpired):
            pass
        time.sleep(0.5)
    raise AssertionError(f"waited {within_s:.0f} s for {what}")


def api_status(site: PracticeSite) -> str:
    """Say whether the admin API answers an authenticated question."""
    return "up" if site.redoubt_json("whoami")["role"] else "down"
