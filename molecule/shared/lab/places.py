"""Where the lab keeps things on the host."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PRACTICE = REPOSITORY / "images" / "practice"
STATE = Path("/var/lib/redoubt-lab")
RUN = Path("/run/redoubt-lab")
NAMESPACES = Path("/run/netns")


def cache() -> Path:
    """Return the folder for what can be made again: node images, libraries."""
    return Path(os.environ.get("REDOUBT_CACHE") or Path.home() / ".cache" / "redoubt")
