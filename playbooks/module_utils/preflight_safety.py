"""What preflight reads before anybody touches a node: who works there, what runs, whether the way out is shut."""

from __future__ import annotations

import os
import pwd
import re
import select
import socket
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.preflight_read import Unread, processes, said, text

PSEUDO_TERMINALS = range(136, 144)  # major numbers
MAINTENANCE, BACKUP = "/etc/redoubt/maintenance", "/var/lib/redoubt/last-backup"
LIMIT_S = 0.4
# Documentation networks (RFC 5737, 3849) and the metadata address of clouds: no packet may get there.
ATTEMPTS = [
    (socket.AF_INET, socket.SOCK_STREAM, ("192.0.2.1", 443)),
    (socket.AF_INET, socket.SOCK_STREAM, ("198.51.100.1", 80)),
    (socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("203.0.113.53", 53)),
    (socket.AF_INET, socket.SOCK_DGRAM, ("203.0.113.123", 123)),
    (socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8::1", 443)),
]


def readers(depot: tuple[str, int]) -> dict[str, Any]:
    """Return every fact of this topic by its name."""
    return {
        "safety.users": lambda: sorted(set(users())),
        "safety.jobs": jobs,
        "safety.maintenance": lambda: text(MAINTENANCE) or "no reason given" if Path(MAINTENANCE).exists() else "",
        "safety.backup_age_s": backup_age_s,
        "boundary.loaded": is_loaded,
        "boundary.escapes": escapes,
        "boundary.depot": lambda: reaches(*depot),
    }


def users() -> list[str]:
    """Return who sits at a terminal of this node; Ansible itself has none."""
    found = [process for process in processes() if (process["tty"] >> 8) & 0xFFF in PSEUDO_TERMINALS]
    return [f"{pwd.getpwuid(one['uid']).pw_name} on pts/{one['tty'] & 0xFF}" for one in found]


def jobs() -> list[str]:
    """Return the jobs of the scheduler that run here, with their user."""
    users_of = {one["parent"]: one["uid"] for one in processes()}
    found = set()
    for process in processes():
        if process["comm"] == "slurmstepd" and process["pid"] in users_of:
            step = re.search(r"\[(\d+)\.", text(f"/proc/{process['pid']}/cmdline"))
            if step:
                found.add(f"{step.group(1)} of {pwd.getpwuid(users_of[process['pid']]).pw_name}")
    return sorted(found)


def backup_age_s() -> float:
    """Return how long ago a backup was recorded here."""
    if not Path(BACKUP).exists():
        raise Unread("no backup has been recorded on this node")
    return time.time() - Path(BACKUP).stat().st_mtime


def is_loaded() -> bool:
    """Tell whether the kernel has the boundary."""
    return "table inet redoubt_boundary" in said(["nft", "list", "tables"])


def escapes() -> list[str]:
    """Return destinations that were reached; nothing is sent while no boundary is loaded."""
    if not is_loaded():
        raise Unread("the boundary is not loaded yet, and preflight sends nothing out of an open node")
    tried = []
    for family, kind, place in ATTEMPTS:
        one = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            one.connect(place)
            if kind == socket.SOCK_DGRAM:
                one.send(b"redoubt preflight")
        except BlockingIOError:
            pass
        except OSError:  # refused by this node's own kernel, which is the point
            one.close()
            continue
        tried.append((one, kind, place))
    return answered(tried)


def answered(tried: list[tuple[socket.socket, int, tuple[str, int]]]) -> list[str]:
    """Wait once for all attempts; return those that anybody answered, with yes or with no."""
    found, deadline = [], time.monotonic() + LIMIT_S
    while tried and (left := deadline - time.monotonic()) > 0:
        readable, writable, _ = select.select(
            [one for one, kind, _ in tried if kind == socket.SOCK_DGRAM],
            [one for one, kind, _ in tried if kind == socket.SOCK_STREAM],
            [],
            left,
        )
        for one, kind, place in [entry for entry in tried if entry[0] in (*readable, *writable)]:
            error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not error or os.strerror(error) == "Connection refused":
                found.append(f"{place[0]}:{place[1]}/{'udp' if kind == socket.SOCK_DGRAM else 'tcp'}")
            tried = [entry for entry in tried if entry[0] is not one]
            one.close()
    for one, _, _ in tried:
        one.close()
    return sorted(found)


def reaches(address: str, port: int) -> bool:
    """Tell whether the depot answers, once this node has what it needs to ask."""
    if not Path("/etc/redoubt/tls/ca.crt").exists():
        raise Unread("this node has no certificate of the site's authority yet")
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True
