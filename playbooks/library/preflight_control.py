"""What preflight reads about the machine that applies, and about the bundle it was given."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.preflight_read import Unread, gather, text

DOCUMENTATION = r"""
module: preflight_control
short_description: Facts of the control host and of the bundle
description:
  - Reads and changes nothing. A fact that cannot be read carries the reason.
options:
  archive:
    description: The tar of the bundle; empty when none is given.
    type: str
    required: true
  addresses:
    description: Addresses of the nodes, whose SSH keys ought to be known.
    type: list
    elements: str
    required: true
  ssh_arguments:
    description: Arguments that SSH is started with.
    type: str
    default: ""
author: Redoubt
"""


def bundle(archive: str) -> dict[str, Any]:
    """Return what the manifest at the head of a bundle says; signatures are checked by the command that applies."""
    if not archive:
        raise Unread("no bundle was given: --bundle FOLDER")
    with tarfile.open(archive, "r:") as tar:
        head = [found for found in (tar.next(), tar.next()) if found and found.name == "bundle.json"]
        stream = tar.extractfile(head[0]) if head else None
        if stream is None:
            raise Unread(f"{archive} does not start with bundle.json")
        raw = stream.read()
    return described(json.loads(raw), Path(archive).stat().st_size)


def described(manifest: dict[str, Any], size_bytes: int) -> dict[str, Any]:
    """Return the facts that checks ask about."""
    return {
        "architecture": manifest.get("architecture", "amd64"),
        "features": manifest["features"],
        "models": [model["name"] for model in manifest["models"]],
        "size_bytes": size_bytes,
        "created_at_s": seconds(manifest["created_at"]),
        "expires_at_s": seconds(manifest["expires_at"]),
    }


def seconds(stamp: str) -> float:
    """Return a time as seconds."""
    return datetime.fromisoformat(stamp).timestamp()


def unknown_hosts(addresses: list[str], arguments: str) -> list[str]:
    """Return addresses whose key no known_hosts file holds."""
    if not addresses:
        return []
    words = [word for word in shlex.split(arguments) if word]
    file = words[words.index("-F") + 1] if "-F" in words else ""
    shown = subprocess.run(
        ["ssh", *(["-F", file] if file else []), "-G", addresses[0]], capture_output=True, text=True, check=True
    ).stdout
    kept = re.findall(r"^(?:user|global)knownhostsfile (.*)$", shown, re.MULTILINE)
    files = [Path(name).expanduser() for line in kept for name in line.split()]
    return [address for address in addresses if not any(holds(file, address) for file in files if file.is_file())]


def holds(file: Path, address: str) -> bool:
    """Tell whether a known_hosts file has a key of an address, hashed or not."""
    content = file.read_text(errors="replace")
    if any(address in line.partition(" ")[0].split(",") for line in content.splitlines()):
        return True
    return (
        "|1|" in content
        and not subprocess.run(["ssh-keygen", "-F", address, "-f", file], capture_output=True, check=False).returncode
    )


def main() -> None:
    """Read the control host and the head of the bundle."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "ssh_arguments": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    room = os.statvfs(tempfile.gettempdir())
    readers = {
        "control.free_bytes": lambda: room.f_bavail * room.f_frsize,
        "control.free_inodes": lambda: room.f_favail,
        "control.memory_mb": lambda: int(re.findall(r"MemAvailable:\s+(\d+)", text("/proc/meminfo"))[0]) // 1024,
        "control.python": lambda: list(sys.version_info[:3]),
        "control.unknown_hosts": lambda: unknown_hosts(given["addresses"], given["ssh_arguments"]),
        "bundle": lambda: bundle(given["archive"]),
    }
    module.exit_json(changed=False, facts=gather(readers))


if __name__ == "__main__":
    main()
