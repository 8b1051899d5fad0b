"""The site's own SSH identity: one key for the controller, one for its nodes, one private configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.record import home
from lab.shell import run

if TYPE_CHECKING:
    from pathlib import Path

    from lab.record import Record

HOST_BLOCK = """\
Host {name} {address}
    HostName {address}
    User root
    IdentityFile {folder}/controller
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    HostKeyAlgorithms ssh-ed25519
    ServerAliveInterval 5
    ServerAliveCountMax 3
    LogLevel ERROR
"""


def ensure_keys(site: str) -> None:
    """Make the two keys where they are missing."""
    folder = home(site) / "ssh"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("controller", "host"):
        if not (folder / f"{name}.pub").exists():
            (folder / name).unlink(missing_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"redoubt-{site}", "-f", str(folder / name))


def write_config(site: str, record: Record) -> None:
    """Write the private configuration and the known hosts for the nodes of the record."""
    folder = home(site) / "ssh"
    public = (folder / "host.pub").read_text().strip()
    known = "".join(f"{node.name},{node.address} {public}\n" for node in record.nodes)
    blocks = (HOST_BLOCK.format(name=node.name, address=node.address, folder=folder) for node in record.nodes)
    (folder / "known_hosts").write_text(known)
    config_path(site).write_text("\n".join(blocks))


def config_path(site: str) -> Path:
    """Return the private ssh_config of a site."""
    return home(site) / "ssh" / "config"
