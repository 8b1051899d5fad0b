"""Files and names that are still there after a power cut."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last: a file's own fsync says nothing of its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(file: Path, data: bytes) -> None:
    """Put new content in place of old, readable by its owner alone; no half of it is ever seen. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    sync_folder(file.parent)
