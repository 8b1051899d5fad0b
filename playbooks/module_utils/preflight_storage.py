"""What preflight reads about disks: room, inodes, identity, and what is on them already."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.preflight_read import Unread, is_container, text

PLACES = ["/", "/var", "/srv", "/opt"]
VIRTUAL = re.compile(r"(?:loop|ram|zram|dm-|md|sr|fd)\d*")
SECTOR_BYTES = 512


def readers() -> dict[str, Any]:
    """Return every fact of this topic by its name."""
    return {
        "storage.room": lambda: {place: room(place) for place in PLACES if Path(place).is_dir()},
        "storage.disks": disks,
    }


def room(place: str) -> dict[str, int]:
    """Return the room that a place has; a file system without inodes says 0."""
    found = os.statvfs(place)
    return {
        "free_bytes": found.f_bavail * found.f_frsize,
        "free_inodes": found.f_favail,
        "inodes": found.f_files,
        "read_only": int(bool(found.f_flag & os.ST_RDONLY)),
        "device": Path(place).stat().st_dev,
    }


def disks() -> list[dict[str, Any]]:
    """Return each disk: identity, size, and what says that it is not empty."""
    if is_container():
        raise Unread("the disks that a container sees are its host's")
    mounted = {line.split()[0].removeprefix("/dev/") for line in text("/proc/self/mounts").splitlines()}
    return [disk(path, mounted) for path in sorted(Path("/sys/block").iterdir()) if not VIRTUAL.match(path.name)]


def disk(path: Path, mounted: set[str]) -> dict[str, Any]:
    """Return one disk. udev has looked for file systems already, so nobody opens the device."""
    parts = sorted(part.name for part in path.iterdir() if (part / "partition").exists())
    record = Path(f"/run/udev/data/b{text(str(path / 'dev'))}")
    known = dict(re.findall(r"^E:(ID_[A-Z_]+)=(.*)$", record.read_text(), re.MULTILINE)) if record.exists() else {}
    holders = any(True for name in [path, *(path / part for part in parts)] for _ in (name / "holders").glob("*"))
    return {
        "name": path.name,
        "serial": known.get("ID_WWN") or known.get("ID_SERIAL", ""),
        "size_bytes": int(text(str(path / "size"))) * SECTOR_BYTES,
        "holds": known.get("ID_FS_TYPE") or known.get("ID_PART_TABLE_TYPE", ""),
        "in_use": holders or bool({path.name, *parts} & mounted),
    }
