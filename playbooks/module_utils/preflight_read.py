"""How preflight reads a node: a value, or the reason why it cannot be read here. Nothing is changed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

COMMAND_LIMIT_S = 5
UNIT = re.compile(r"/([^/]+\.(?:service|scope|socket))(?:/|$)")


class Unread(Exception):
    """A fact that this node does not show."""


def gather(readers: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Read every fact; one that cannot be read carries its reason."""
    facts: dict[str, Any] = {}
    for name, read in readers.items():
        try:
            facts[name] = read()
        except (Unread, OSError, ValueError, LookupError, AttributeError, subprocess.SubprocessError) as error:
            facts[name] = {"unread": str(error) or type(error).__name__}
    return facts


def text(path: str, missing: str = "") -> str:
    """Return a small file; raises Unread when it is not there."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise Unread(missing or f"{path}: {error.strerror}") from None


def said(argv: list[str]) -> str:
    """Return what a command says; raises Unread when it is missing or fails."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False, env=environment
        )
    except FileNotFoundError:
        raise Unread(f"{argv[0]} is not installed") from None
    if done.returncode:
        raise Unread(f"{argv[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def is_container() -> bool:
    """Tell whether this node shares its kernel with a host."""
    return Path("/run/systemd/container").exists()


@cache
def processes() -> list[dict[str, Any]]:
    """List what runs, looked at once: process, parent, command, unit, terminal and user."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                found.append(_process(folder))
            except OSError:  # it ended meanwhile
                continue
    return found


@cache
def open_files(pid: int) -> tuple[str, ...]:
    """Return what a process has open, looked at once."""
    folder = f"/proc/{pid}/fd"
    found = []
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - a path object for each of thousands costs more than the look
            found.append(os.readlink(f"{folder}/{name}"))  # noqa: PTH115, PERF401 - the same; and what was read counts
    except OSError:  # it was closed, or the process ended meanwhile
        pass
    return tuple(found)


def _process(folder: Path) -> dict[str, Any]:
    stat = (folder / "stat").read_text()
    comm, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
    units = UNIT.findall((folder / "cgroup").read_text())
    return {
        "pid": int(folder.name),
        "parent": int(rest[1]),
        "comm": comm,
        "unit": units[-1] if units else "",
        "tty": int(rest[4]),
        "uid": folder.stat().st_uid,
    }
