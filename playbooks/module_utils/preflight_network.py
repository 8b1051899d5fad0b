"""What preflight reads about network and fabric: addresses, routes, names, listeners, rules, RDMA ports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.preflight_read import Unread, open_files, processes, said, text

LISTEN, UNCONNECTED = "0A", "07"


def readers() -> dict[str, Any]:
    """Return every fact of this topic by its name."""
    return {
        "network.interfaces": interfaces,
        "network.default_routes": default_routes,
        "network.nameservers": lambda: (
            re.findall(r"^nameserver\s+(\S+)", text("/etc/resolv.conf"), re.MULTILINE)
            if Path("/etc/resolv.conf").exists()
            else []
        ),
        "network.neighbours": neighbours,
        "network.listeners": listeners,
        "network.nft_tables": lambda: [
            line.removeprefix("table ") for line in said(["nft", "list", "tables"]).splitlines()
        ],
        "network.legacy_tables": lambda: [line for name in ("ip", "ip6") for line in legacy(name)],
        "fabric.ports": fabric_ports,
    }


def interfaces() -> list[dict[str, Any]]:
    """Return each interface with addresses, its speed and its count of damaged frames."""
    return [
        {
            "name": one["ifname"],
            "mac": one.get("address", ""),
            "mtu": one.get("mtu", 0),
            "up": one.get("operstate") == "UP",
            "addresses": [address["local"] for address in one["addr_info"]],
            "speed_mb": number(one["ifname"], "speed"),
            "damaged": number(one["ifname"], "statistics/rx_crc_errors"),
        }
        for one in json.loads(said(["ip", "-json", "address"]))
        if one.get("ifname") != "lo"
    ]


def number(interface: str, name: str) -> int:
    """Return a number of an interface, or -1 where it has none."""
    try:
        return int(text(f"/sys/class/net/{interface}/{name}"))
    except (Unread, ValueError):
        return -1


def default_routes() -> list[str]:
    """Return where packets for elsewhere would go, in both families."""
    found = [
        route
        for family in ("-4", "-6")
        for route in json.loads(said(["ip", family, "-json", "route", "show", "default"]) or "[]")
    ]
    return [f"{route.get('gateway', 'no gateway')} dev {route.get('dev', '?')}" for route in found]


def neighbours() -> dict[str, str]:
    """Return the hardware address behind each address that was heard lately."""
    heard = json.loads(said(["ip", "-json", "neighbour"]) or "[]")
    return {one["dst"]: one["lladdr"] for one in heard if "lladdr" in one}


def listeners() -> list[dict[str, Any]]:
    """Return every open port with the unit that holds it."""
    owners = dict(sockets())
    found = []
    for protocol, state in (("tcp", LISTEN), ("udp", UNCONNECTED)):
        for family in ("", "6"):
            for line in (
                text(f"/proc/net/{protocol}{family}").splitlines()[1:]
                if Path(f"/proc/net/{protocol}{family}").exists()
                else ()
            ):
                fields = line.split()
                if fields[3] == state:
                    comm, unit = owners.get(fields[9], ("?", ""))
                    port = int(fields[1].rpartition(":")[2], 16)
                    found.append({"protocol": protocol, "port": port, "comm": comm, "unit": unit})
    return found


def sockets() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (inode, (program, unit)) of every open socket; the kernel's own have no holder."""
    for process in processes():
        for target in open_files(process["pid"]):
            if target.startswith("socket:["):
                yield target[8:-1], (process["comm"], process["unit"])


def legacy(family: str) -> list[str]:
    """Return tables of the packet filter before nftables."""
    path = Path(f"/proc/net/{family}_tables_names")
    return [f"{family} {name}" for name in path.read_text().split()] if path.exists() else []


def fabric_ports() -> list[dict[str, Any]]:
    """Return each RDMA port: its state, rate, link and addresses."""
    root = Path("/sys/class/infiniband")
    if not root.is_dir():
        raise Unread("no RDMA device is shown here")
    return [
        {
            "name": f"{port.parents[1].name}/{port.name}",
            "state": text(str(port / "state")),
            "rate": text(str(port / "rate")),
            "link": text(str(port / "link_layer")),
            "gids": sorted({gid for path in port.glob("gids/*") if (gid := address(path)).strip("0:")} - {""}),
        }
        for port in sorted(root.glob("*/ports/*"))
    ]


def address(path: Path) -> str:
    """Return one address of a port; an empty entry cannot be read on some devices."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
