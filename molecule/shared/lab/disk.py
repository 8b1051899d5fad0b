"""A node's disk: an overlay over the image and any snapshots, with what makes the node itself."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.network import CONTROLLER
from lab.record import home
from lab.shell import run, wait_until

if TYPE_CHECKING:
    from lab.record import Node, Record

NETWORK_FILE = """\
[Match]
Name=host0
[Network]
Address={address}/24
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


def node_home(site: str, node: str) -> Path:
    """Return the folder of one node."""
    return home(site) / "nodes" / node


def root(site: str, node: str) -> Path:
    """Return where the node's disk is mounted."""
    return node_home(site, node) / "root"


def containers(site: str, node: str) -> Path:
    """Return the node's container store; overlay on overlay does not work, so it is a plain folder."""
    return node_home(site, node) / "containers"


def shared(site: str) -> Path:
    """Return the folder that all nodes of the site have in common; snapshots leave it as it is."""
    return home(site) / "shared"


def mount_disk(site: str, node: Node, record: Record) -> None:
    """Make and mount the disk of a node where it is not mounted yet."""
    folder = node_home(site, node.name)
    for name in ("up", "work", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _fill_containers(site, node, record)
    shared(site).mkdir(exist_ok=True)
    if not mounts_under(folder / "root"):
        lower = ":".join([*(str(layer / node.name / "up") for layer in _layers_of(node, record)), str(record.image)])
        options = f"lowerdir={lower},upperdir={folder / 'up'},workdir={folder / 'work'},index=off"
        run("mount", "-t", "overlay", "-o", options, "redoubt-lab", str(folder / "root"))


def personalise(site: str, node: Node, record: Record) -> None:
    """Write name, address, keys and identity onto a disk that has none yet; the identity comes last."""
    disk = root(site, node.name)
    if (disk / "etc" / "machine-id").exists():
        return
    _write(disk / "etc/hostname", f"{node.name}\n")
    _write(disk / "etc/hosts", _hosts(record))
    _write(disk / "etc/systemd/network/10-lab.network", NETWORK_FILE.format(address=node.address))
    _write(disk / "root/.ssh/authorized_keys", (home(site) / "ssh/controller.pub").read_text(), mode=0o600)
    _write(disk / "etc/ssh/ssh_host_ed25519_key", (home(site) / "ssh/host").read_text(), mode=0o600)
    _write(disk / "etc/ssh/ssh_host_ed25519_key.pub", (home(site) / "ssh/host.pub").read_text())
    _write(disk / "etc/machine-id", f"{uuid.uuid4().hex}\n")


def unmount_all(folder: Path) -> None:
    """Unmount everything at or under a folder, innermost first; a node that just ended may hold it a moment longer."""
    for mount in reversed(mounts_under(folder)):
        if not wait_until(_unmounted, mount, timeout_s=10):
            run("umount", mount)


def mounts_under(folder: Path) -> list[str]:
    """List the mount points at or under a folder, in mount order."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point == str(folder) or point.startswith(f"{folder}/")]


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with owners, links and attributes."""
    run("cp", "--archive", "--reflink=auto", str(source), str(target), timeout_s=600)


def remove_tree(folder: Path) -> None:
    """Remove a folder in which nothing is mounted any more."""
    if left := mounts_under(folder):
        raise LabError(f"{left} are still mounted; nothing under {folder} was removed")
    if folder.exists():
        shutil.rmtree(folder)


def _unmounted(mount: str) -> bool:
    with contextlib.suppress(LabError):
        run("umount", mount)
        return True
    return False


def _fill_containers(site: str, node: Node, record: Record) -> None:
    target = containers(site, node.name)
    if target.exists():
        return
    partial = target.with_name("containers.new")
    remove_tree(partial)
    kept = [layer / node.name / "containers" for layer in _layers_of(node, record)]
    copy_tree(kept[0], partial) if kept else partial.mkdir()
    partial.rename(target)


def _layers_of(node: Node, record: Record) -> list[Path]:
    return [layer for layer in record.layers if (layer / node.name / "up").is_dir()]


def _hosts(record: Record) -> str:
    lines = ["127.0.0.1 localhost", "::1 localhost", f"{CONTROLLER} controller"]
    return "\n".join([*lines, *(f"{node.address} {node.name}" for node in record.nodes)]) + "\n"


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.write_text(text)
    path.chmod(mode)
