"""The tree as git sees it: what is tracked, and what would be."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Paths from the root, of every file that git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"], check=True, capture_output=True
    ).stdout.decode()
    return tuple(sorted(path for name in listed.split("\0") if name and (ROOT / (path := Path(name))).is_file()))


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text(errors="replace")


def python_files(*folders: str) -> list[Path]:
    """Python files below these folders, as paths from the root."""
    return [path for path in files() if path.suffix == ".py" and any(path.is_relative_to(f) for f in folders)]
