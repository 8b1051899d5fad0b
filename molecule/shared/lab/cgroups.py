"""One cgroup branch per node: it keeps nodes apart, and names every process that belongs to one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lab.errors import LabError
from lab.shell import wait_until

ROOT = Path("/sys/fs/cgroup")
BRANCH = "redoubt-lab"


def make_branches(site: str, node: str) -> list[Path]:
    """Make a fresh branch for the node in every hierarchy that systemd inside the node will look at."""
    # Fresh, because a kernel may kill what is later started in a branch that was killed once (seen on 6.18).
    for root in _hierarchies():
        _remove_tree(_branch(root, site, node))
    branches = [root / BRANCH / site / node for root in _hierarchies()]
    for branch in branches:
        branch.mkdir(parents=True, exist_ok=True)
    if _is_pure():
        _hand_down_controllers(site)
    return branches


def processes(site: str, node: str | None = None) -> list[int]:
    """List every process of a node, or of a whole site, supervisor included."""
    found: set[int] = set()
    for root in _hierarchies():
        for folder, _, _ in os.walk(_branch(root, site, node)):  # unlike rglob it bears folders that go meanwhile
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text().split())
    return sorted(found)


def kill(site: str, node: str | None = None, *, timeout_s: float = 15) -> None:
    """Kill everything in the branch at once and wait until it is gone."""
    switch = _branch(_unified(), site, node) / "cgroup.kill"
    if switch.exists():
        switch.write_text("1")
    if not wait_until(lambda: not processes(site, node), timeout_s=timeout_s):
        raise LabError(f"processes {processes(site, node)} of practice site {site} do not end; look at them with ps")


def set_frozen(site: str, node: str, *, frozen: bool) -> None:
    """Stop or resume every process of the node."""
    if not _branch(_unified(), site, node).exists():
        raise LabError(f"node {node} of site {site} was never started; start it first")
    (_branch(_unified(), site, node) / "cgroup.freeze").write_text("1" if frozen else "0")


def is_frozen(site: str, node: str) -> bool:
    """Tell whether the node is frozen."""
    switch = _branch(_unified(), site, node) / "cgroup.freeze"
    return switch.exists() and switch.read_text().strip() == "1"


def remove_branches(site: str) -> None:
    """Remove the site's branches; they must be empty of processes."""
    for root in _hierarchies():
        _remove_tree(_branch(root, site, None))
        with contextlib.suppress(OSError):  # another site still uses it
            (root / BRANCH).rmdir()


def exists(site: str) -> bool:
    """Tell whether the site has a branch anywhere."""
    return any(_branch(root, site, None).exists() for root in _hierarchies())


def _branch(root: Path, site: str, node: str | None) -> Path:
    return root / BRANCH / site / (node or "")


def _hierarchies() -> list[Path]:
    return [_unified()] if _is_pure() else [_unified(), ROOT / "systemd"]


def _unified() -> Path:
    if _is_pure():
        return ROOT
    if (ROOT / "unified" / "cgroup.procs").exists():
        return ROOT / "unified"
    raise LabError("this host has no cgroup2 tree at /sys/fs/cgroup or /sys/fs/cgroup/unified; practice nodes need one")


def _is_pure() -> bool:
    return (ROOT / "cgroup.controllers").exists()


def _hand_down_controllers(site: str) -> None:
    for branch in (ROOT, ROOT / BRANCH, ROOT / BRANCH / site):
        for controller in (branch / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):  # a controller may be held elsewhere; nodes do without it
                (branch / "cgroup.subtree_control").write_text(f"+{controller}")


def _remove_tree(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        if not wait_until(_removed, Path(folder), timeout_s=5):
            raise LabError(f"cgroup {folder} is still in use")


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
