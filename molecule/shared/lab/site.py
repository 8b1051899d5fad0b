"""A practice site: nodes on a bridge that leads nowhere. Every verb may be repeated, also after a kill -9."""

from __future__ import annotations

import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lab import cgroups, disk, keys, machine, network, record, router, snapshots
from lab.errors import LabError
from lab.image import build_image
from lab.places import NAMESPACES, STATE
from lab.shell import run, wait_until
from lab.turns import forget_turn, take_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from ipaddress import IPv4Address
    from pathlib import Path

    from lab.record import Node, Record

ANSWER_TIMEOUT_S = 60


class Site:
    """The verbs of one practice site."""

    def __init__(self, name: str) -> None:
        """Name the site; nothing is made yet."""
        self.name = record.checked_name(name)
        self.home = record.home(name)
        self.ssh_config: Path = keys.config_path(name)
        self.enter = network.enter(name)

    def up(self, nodes: Iterable[Node]) -> bool:
        """Bring the named nodes up and wait until they answer over SSH; tell whether anything had to be done."""
        with take_turn(self.name):
            before = self._settled()
            after = record.with_nodes(before or record.Record(build_image(), ()), tuple(nodes))
            if before == after and self._is_healthy(after):
                return False
            record.save(self.name, after)
            self._raise(after)
            return True

    def down(self) -> bool:
        """Remove every trace of the site; tell whether there was any."""
        with take_turn(self.name):
            self._refuse_when_others_stand_on_it()
            found = self.home.exists() or cgroups.exists(self.name) or self._has_network()
            cgroups.kill(self.name)
            disk.unmount_all(self.home)
            router.remove_router(self.name)
            network.remove_network(self.name)
            cgroups.remove_branches(self.name)
            machine.forget(self.name)
            disk.unmount_all(self.home)  # once more: a start that was killed may have had a mount under way
            disk.remove_tree(self.home)
            forget_turn(self.name)
            return found

    def nodes(self) -> tuple[Node, ...]:
        """List the nodes of the site."""
        return self._record().nodes

    def status(self) -> dict[str, str]:
        """Say of every node whether it is running, frozen or off."""
        return {node.name: self._state(node.name) for node in self.nodes()}

    def ssh(
        self, node: str, *command: str, stdin: str | None = None, check: bool = True, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a node: one word is a shell line, several are quoted."""
        line = command[0] if len(command) == 1 else shlex.join(command)
        done = subprocess.run(
            [*self.ssh_words(self._node(node).name), line],
            input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise LabError(f"`{line}` on {node} failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
        return done

    def ssh_words(self, node: str, *options: str) -> list[str]:
        """Return the words that start an SSH session from inside the boundary."""
        return [*self.enter, "ssh", "-F", str(self.ssh_config), "-o", "ControlPath=none", *options, node]

    def power_cut(self, node: str) -> None:
        """Pull the plug of a node."""
        machine.cut_power(self.name, self._node(node).name)

    def power_off(self, node: str) -> None:
        """Shut a node down in order."""
        machine.power_off(self.name, self._node(node).name)

    def start(self, *nodes: str) -> None:
        """Boot nodes from their disks and wait until they answer."""
        present, chosen = self._record(), [self._node(name) for name in nodes]
        self._each(chosen, lambda node: disk.mount_disk(self.name, node, present))
        self._boot(chosen)
        self._wait_for_answers(chosen)

    def freeze(self, node: str) -> None:
        """Hang a node: it still takes connections and answers nothing."""
        cgroups.set_frozen(self.name, self._node(node).name, frozen=True)

    def thaw(self, node: str) -> None:
        """Let a hung node go on."""
        cgroups.set_frozen(self.name, self._node(node).name, frozen=False)

    def partition(self, node: str, *others: str) -> None:
        """Cut a node off from the others named, or from all; the controller still reaches it."""
        network.cut(self.name, self._pairs(node, others))

    def heal(self, node: str | None = None, *others: str) -> None:
        """Undo a partition, or all of them."""
        network.heal(self.name, self._pairs(node, others) if node else None)

    def counters(self) -> dict[str, int]:
        """Count packets by kind since the site came up; only `inside` (and `cut_off`) may move."""
        self._record()
        return network.read_counters(self.name)

    def snapshot(self, name: str) -> None:
        """Keep the disks of all nodes under a name; nodes that ran run again."""
        with take_turn(self.name):
            present = self._settled() or self._record()
            if snapshots.snapshot_path(self.name, name).exists():
                raise LabError(f"site {self.name} already has a snapshot {name}; choose another name")
            running = [node for node in present.nodes if machine.is_running(self.name, node.name)]
            self._each(running, lambda node: machine.power_off(self.name, node.name))
            snapshots.keep_disks(self.name, present, name)
            self._boot(running)
            self._wait_for_answers(running)

    def restore(self, name: str) -> None:
        """Bring the site back to a snapshot of its own; what was written since is gone."""
        with take_turn(self.name):
            present = self._settled() or self._record()
            source = snapshots.find_snapshot(self.name, name)
            cgroups.kill(self.name)
            self._raise(snapshots.return_to(self.name, present, source))
            network.heal(self.name)

    def restore_as(self, name: str, other: str) -> Site:
        """Bring a second site up from a snapshot of this one, with the same addresses in a network of its own."""
        origin, source, site = self._record(), snapshots.find_snapshot(self.name, name), Site(other)
        with take_turn(other):
            if record.load(other):
                raise LabError(f"site {other} exists already; take it down first")
            nodes = tuple(node for node in origin.nodes if (source / node.name).is_dir())
            after = record.Record(origin.image, nodes, snapshots.layers_of(source))
            disk.remove_tree(site.home / "ssh")
            site.home.mkdir(parents=True, exist_ok=True)
            disk.copy_tree(source / "ssh", site.home / "ssh")
            record.save(other, after)
            site._raise(after)
        return site

    def _settled(self) -> Record | None:
        present = record.load(self.name)
        return snapshots.settle(self.name, present) if present else None

    def _raise(self, present: Record) -> None:
        keys.ensure_keys(self.name)
        keys.write_config(self.name, present)
        network.ensure_network(self.name)
        router.ensure_router(self.name)
        self._each(present.nodes, lambda node: disk.mount_disk(self.name, node, present))
        self._each(present.nodes, lambda node: disk.personalise(self.name, node, present))
        self._boot(present.nodes)
        self._wait_for_answers(present.nodes)

    def _boot(self, nodes: Iterable[Node]) -> None:
        self._each(nodes, lambda node: machine.boot(self.name, node.name))

    def _wait_for_answers(self, nodes: Iterable[Node]) -> None:
        self._each(nodes, self._wait_for_answer)

    def _wait_for_answer(self, node: Node) -> None:
        if not wait_until(lambda: self._answers(node), timeout_s=ANSWER_TIMEOUT_S, pause_s=0.2):
            tail = machine.console_tail(self.name, node.name)
            raise LabError(
                f"node {node.name} does not answer SSH in {ANSWER_TIMEOUT_S} s; its console ends with:\n{tail}"
            )

    def _answers(self, node: Node) -> bool:
        words = self.ssh_words(node.name, "-o", "ConnectTimeout=2", "-o", "BatchMode=yes")
        try:
            return subprocess.run([*words, "true"], capture_output=True, timeout=10, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _is_healthy(self, present: Record) -> bool:
        if not self._has_network() or network.ensure_network(self.name) or router.ensure_router(self.name):
            return False
        return all(self._state(node.name) == "running" and self._answers(node) for node in present.nodes)

    def _has_network(self) -> bool:
        return (NAMESPACES / network.namespace(self.name)).exists()

    def _state(self, node: str) -> str:
        if not machine.is_running(self.name, node):
            return "off"
        return "frozen" if cgroups.is_frozen(self.name, node) else "running"

    def _record(self) -> Record:
        present = record.load(self.name)
        if present is None:
            known = ", ".join(list_sites()) or "none"
            raise LabError(f"there is no practice site {self.name} (there are: {known}); make it with `up {self.name}`")
        return present

    def _node(self, name: str) -> Node:
        nodes = {node.name: node for node in self.nodes()}
        if name not in nodes:
            raise LabError(f"site {self.name} has no node {name}; it has {', '.join(nodes)}")
        return nodes[name]

    def _pairs(self, node: str, others: tuple[str, ...]) -> list[tuple[IPv4Address, IPv4Address]]:
        one = self._node(node)
        peers = [self._node(name) for name in others] or [peer for peer in self.nodes() if peer != one]
        return [(one.address, peer.address) for peer in peers]

    def _refuse_when_others_stand_on_it(self) -> None:
        for other in list_sites():
            present = record.load(other)
            if other != self.name and present and any(layer.is_relative_to(self.home) for layer in present.layers):
                raise LabError(f"site {other} stands on a snapshot of {self.name}; take {other} down first")

    @staticmethod
    def _each(nodes: Iterable[Node], act: Callable[[Node], object]) -> None:
        with ThreadPoolExecutor(max_workers=8) as pool:
            for outcome in [pool.submit(act, node) for node in nodes]:
                outcome.result()


def list_sites() -> list[str]:
    """List the practice sites of this host."""
    return sorted(path.name for path in STATE.iterdir() if path.is_dir()) if STATE.exists() else []


def require_root() -> None:
    """Refuse early when the lab cannot work."""
    if run("id", "-u").strip() != "0":
        raise LabError("practice nodes are made by root; run this with sudo")
