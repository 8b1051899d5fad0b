"""What a site is made of, as one file that is replaced in one piece."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from lab.errors import LabError
from lab.network import CONTROLLER, NETWORK, ROUTER
from lab.places import STATE

NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")


@dataclass(frozen=True)
class Node:
    """One practice machine: its name and its address on the bridge."""

    name: str
    address: IPv4Address

    @classmethod
    def parse(cls, text: str) -> Node:
        """Read NAME=ADDRESS."""
        name, _, address = text.partition("=")
        try:
            return cls(checked_name(name), _checked_address(address))
        except AddressValueError as wrong:
            raise LabError(f"`{text}` is not NAME=ADDRESS with an address inside {NETWORK}: {wrong}") from wrong


@dataclass(frozen=True)
class Record:
    """The parts of a site. Layers are snapshots under its disks, newest first."""

    image: Path
    nodes: tuple[Node, ...]
    layers: tuple[Path, ...] = field(default=())


def checked_name(name: str) -> str:
    """Return a name that is safe as a host name and as a folder."""
    if not NAME.fullmatch(name):
        message = f"`{name}` is no name for a site, node or snapshot: a letter, then a-z, 0-9 and -, 24 at most"
        raise LabError(message)
    return name


def home(site: str) -> Path:
    """Return the folder that holds everything about a site."""
    return STATE / site


def load(site: str) -> Record | None:
    """Read the record of a site, None when there is none."""
    path = home(site) / "site.json"
    if not path.exists():
        return None
    raw = json.loads(path.read_text())
    nodes = tuple(Node(name, IPv4Address(address)) for name, address in raw["nodes"].items())
    return Record(Path(raw["image"]), nodes, tuple(Path(layer) for layer in raw["layers"]))


def save(site: str, record: Record) -> None:
    """Replace the record of a site."""
    raw = {
        "image": str(record.image),
        "nodes": {node.name: str(node.address) for node in record.nodes},
        "layers": [str(layer) for layer in record.layers],
    }
    path = home(site) / "site.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(raw, indent=2))
    fresh.replace(path)


def with_nodes(record: Record, asked: tuple[Node, ...]) -> Record:
    """Add the asked nodes to the record; refuse one that contradicts it."""
    merged = {node.name: node for node in record.nodes}
    for node in asked:
        if merged.setdefault(node.name, node) != node:
            raise LabError(f"{node.name} is up at {merged[node.name].address}, not {node.address}; take it down first")
    if len({node.address for node in merged.values()}) < len(merged):
        raise LabError("two nodes were given the same address")
    return Record(record.image, tuple(merged.values()), record.layers)


def _checked_address(text: str) -> IPv4Address:
    address = IPv4Address(text)
    reserved = (CONTROLLER, ROUTER, NETWORK.network_address, NETWORK.broadcast_address)
    if address not in NETWORK or address in reserved:
        raise LabError(
            f"{address} is not free for a node; use an address inside {NETWORK} other than {CONTROLLER} and {ROUTER}"
        )
    return address
