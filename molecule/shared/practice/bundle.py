"""The bundle of practice sites: of the repository's lock, or of a new one when the mirror has moved on since."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from lab.errors import LabError
from lab.places import REPOSITORY, cache

from controlplane.bundle.lock import Lock, read_lock
from controlplane.bundle.versions import version_key

LOCK = REPOSITORY / "images" / "bundle.lock"
# Base comes by itself. No GPU driver, observability or acceptance: practice nodes have nothing for them to do.
FEATURES = ("time", "depot", "slurm", "postgres", "control-plane", "gateway", "inference", "practice")
CHOSEN = tuple(word for feature in FEATURES for word in ("--feature", feature))

Redoubt = Callable[..., str]  # runs the CLI; raises LabError when it fails


def fetch(redoubt: Redoubt) -> Path:
    """Bring what the lock pins into the store; return the lock that could be had."""
    try:
        redoubt("bundle", "fetch", *CHOSEN)
    except LabError:
        return lock_anew(redoubt, "not everything that it pins could be had; the reasons stand above")
    return LOCK


def fit(redoubt: Redoubt, lock: Path, image: Path) -> Path:
    """Return a lock whose packages nodes of this image can install: none may be older than what they have."""
    newer = newer_in(image, read_lock(lock))
    if not newer:
        return lock
    return lock_anew(redoubt, f"the node image has newer packages: {', '.join(newer)}")


def lock_anew(redoubt: Redoubt, reason: str) -> Path:
    """Lock into the cache, and say so: the repository's lock is for a person to renew."""
    mine = cache() / "practice" / LOCK.name
    sys.stderr.write(
        f"practice: WARNING: {LOCK.relative_to(REPOSITORY)} is out of date: {reason}\n"
        f"practice: going on with a new lock in {mine}; to renew the repository's: redoubt bundle lock\n"
    )
    mine.parent.mkdir(parents=True, exist_ok=True)
    if not mine.exists() or read_lock(mine).serial < read_lock(LOCK).serial:
        shutil.copyfile(LOCK, mine)
    redoubt("bundle", "lock", "--lock", mine)
    redoubt("bundle", "fetch", "--lock", mine, *CHOSEN)
    return mine


def build(redoubt: Redoubt, lock: Path, models: Path, out: Path) -> None:
    """Build the bundle; what stands there already and is whole is left as it is."""
    redoubt("bundle", "build", "--lock", lock, "--models", models, "--out", out, *CHOSEN)


def newer_in(image: Path, lock: Lock) -> list[str]:
    """Return the packages that an image has in a newer version than the lock pins."""
    pinned = {deb.name: deb.version for deb in lock.of("deb")}
    status = (image / "var/lib/dpkg/status").read_text()
    found = re.findall(r"^Package: (\S+)\n(?:.+\n)*?Version: (\S+)$", status, re.MULTILINE)
    return [name for name, version in found if name in pinned and version_key(version) > version_key(pinned[name])]
