"""Keep the disks of a site under a name and come back to them. A journal lets an interrupted step be finished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lab import disk, record
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.record import Record


def snapshot_path(site: str, name: str) -> Path:
    """Return the folder of a snapshot."""
    return record.home(site) / "snapshots" / record.checked_name(name)


def find_snapshot(site: str, name: str) -> Path:
    """Return the folder of a snapshot that exists."""
    found = snapshot_path(site, name)
    if not found.exists():
        raise LabError(f"site {site} has no snapshot {name}; make one with `snapshot {site} {name}`")
    return found


def keep_disks(site: str, present: Record, name: str) -> Record:
    """Move what the nodes wrote aside and put empty layers on top; the nodes must be off."""
    target = snapshot_path(site, name)
    _begin(site, target)
    disk.unmount_all(record.home(site) / "nodes")
    partial = _partial(target)
    disk.remove_tree(partial)
    partial.mkdir(parents=True)
    (partial / "below").write_text("\n".join(str(layer) for layer in present.layers))
    disk.copy_tree(record.home(site) / "ssh", partial / "ssh")
    for node in present.nodes:
        move_layers(disk.node_home(site, node.name), partial / node.name)
    partial.rename(target)
    return return_to(site, present, target)


def return_to(site: str, present: Record, snapshot: Path) -> Record:
    """Give every node an empty layer over the snapshot; the nodes must be off."""
    _begin(site, snapshot)
    disk.unmount_all(record.home(site) / "nodes")
    after = replace(present, layers=layers_of(snapshot))
    record.save(site, after)
    for node in present.nodes:
        for part in ("up", "containers"):
            disk.remove_tree(disk.node_home(site, node.name) / part)
        disk.mount_disk(site, node, after)
    _journal(site).unlink()
    return after


def settle(site: str, present: Record) -> Record:
    """Finish, or undo, what a kill -9 interrupted."""
    if not _journal(site).exists():
        return present
    target = Path(_journal(site).read_text())
    if target.exists():
        return return_to(site, present, target)
    for node in present.nodes:
        move_layers(_partial(target) / node.name, disk.node_home(site, node.name))
    disk.remove_tree(_partial(target))
    _journal(site).unlink()
    return present


def layers_of(snapshot: Path) -> tuple[Path, ...]:
    """Return the snapshot and the snapshots it stands on."""
    return (snapshot, *(Path(line) for line in (snapshot / "below").read_text().splitlines() if line))


def move_layers(source: Path, target: Path) -> None:
    """Move what a node wrote from one folder to another; what is not there was moved before."""
    for part in ("up", "containers"):
        if (source / part).exists():
            target.mkdir(parents=True, exist_ok=True)
            (source / part).rename(target / part)


def _begin(site: str, snapshot: Path) -> None:
    fresh = _journal(site).with_suffix(".new")
    fresh.write_text(str(snapshot))
    fresh.replace(_journal(site))


def _journal(site: str) -> Path:
    return record.home(site) / "journal"


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}")
