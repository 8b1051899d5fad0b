"""What the kernel says: rules and their counters, a witness of what really left, what listens, traces of proxies."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

Json = dict[str, Any]  # what nft prints is plain JSON

BOUNDARY, WITNESS = ("inet", "redoubt_boundary"), ("inet", "redoubt_proof")
RULES = """
table inet redoubt_proof
delete table inet redoubt_proof
table inet redoubt_proof {{
    counter tried {{ }}
    counter left {{ }}
    chain tries {{
        type filter hook output priority -350; policy accept;
        oifname "lo" accept
        ip daddr {{ {tried4} }} counter name tried
        ip6 daddr {{ {tried6} }} counter name tried
    }}
    chain leaves {{
        type filter hook postrouting priority 350; policy accept;
        oifname "lo" accept
        ip daddr {{ {ipv4} }} counter name left
        ip6 daddr {{ {ipv6} }} counter name left
    }}
}}
"""
PROXY_FILES = (
    "etc/environment", "etc/profile", "etc/bash.bashrc", "etc/pip.conf", "etc/gitconfig", "etc/wgetrc", "etc/curlrc",
    "root/.pip/pip.conf", "root/.config/pip/pip.conf", "root/.curlrc", "root/.gitconfig", "root/.profile",
    "root/.bashrc", "etc/systemd/system.conf", "etc/security/pam_env.conf",
)  # fmt: skip
PROXY_FOLDERS = ("etc/profile.d", "etc/environment.d", "etc/systemd/system.conf.d", "etc/apt/apt.conf.d")
PROXY_WORD = re.compile(
    r"^\s*(?![#;]|//).*?(?<!\w)\w*proxy(?:-auto-detect)?\b[\"'\s:=]+(?P<value>[^\s\"';]+)", re.IGNORECASE
)
NO_PROXY = {"direct", "false", "none", "{"}


class Witness:
    """Counts, before and after all filters, what is sent to the destinations of the proof. It filters nothing."""

    def __init__(self, ipv4: list[str], ipv6: list[str], resolvers: list[str]) -> None:
        """Remember the destinations. A resolver may serve the site otherwise, so of it only what was tried counts."""
        own = [host.partition("%")[0] for host in resolvers]
        tried4 = sorted({*ipv4, *(host for host in own if ":" not in host)})
        tried6 = sorted({*ipv6, *(host for host in own if ":" in host)})
        words = {"ipv4": ipv4, "ipv6": ipv6, "tried4": tried4, "tried6": tried6}
        self._rules = RULES.format(**{name: ", ".join(hosts) for name, hosts in words.items()})
        self._stands = False

    def __enter__(self) -> Self:
        """Load the counters; without nft there is no witness."""
        self._stands = _nft("-f", "-", stdin=self._rules) is not None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take them away again."""
        if self._stands:
            _nft("delete", "table", *WITNESS)

    def counts(self) -> dict[str, int] | None:
        """Return what was tried and what left, in packets."""
        return counters(WITNESS) if self._stands else None


def counters(table: tuple[str, str] = BOUNDARY) -> dict[str, int] | None:
    """Return the named counters of a table in packets, or nothing when it is not loaded."""
    text = _nft("-j", "list", "counters", "table", *table)
    if text is None:
        return None
    found = (item["counter"] for item in json.loads(text)["nftables"] if "counter" in item)
    return {str(counter["name"]): int(counter["packets"]) for counter in found}


def policies() -> dict[str, str]:
    """Return the policy of each hook of the boundary, such as output: drop."""
    text = _nft("-j", "list", "table", *BOUNDARY)
    chains = [item["chain"] for item in json.loads(text)["nftables"] if "chain" in item] if text else []
    return {str(chain["hook"]): str(chain["policy"]) for chain in chains if "hook" in chain}


def rules_digest(path: Path) -> str:
    """Return the SHA-256 of the rules that every boot loads."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def loaded_digest() -> str:
    """Return the SHA-256 of the rules as the kernel has them now, without their counters."""
    text = _nft("--stateless", "list", "table", *BOUNDARY)
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def listening(proc: Path = Path("/proc/net")) -> list[Json]:
    """Return the sockets that wait for others, loopback left out."""
    found = {
        (kind, address, port)
        for kind, state in (("tcp", "0A"), ("udp", "07"))
        for name in (kind, f"{kind}6")
        for address, port in _sockets(proc / name, state)
    }
    return [{"protocol": kind, "address": address, "port": port} for kind, address, port in sorted(found)]


def resolvers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """Return the resolvers that this node asks."""
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return sorted({line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1})


def gateways() -> list[str]:
    """Return the routers of default routes."""
    text = _run("ip", "-j", "route", "show", "default") or "[]"
    return sorted({route["gateway"] for route in json.loads(text or "[]") if ":" not in route.get("gateway", ":")})


def interfaces() -> list[str]:
    """Return the network interfaces but loopback."""
    return sorted(name for _, name in socket.if_nameindex() if name != "lo")


def proxy_traces(root: Path = Path("/")) -> Iterator[tuple[str, bool]]:
    """Yield each place where a proxy could be set, and whether one is."""
    folders = [
        path for folder in PROXY_FOLDERS if (root / folder).is_dir() for path in sorted((root / folder).iterdir())
    ]
    for path in [root / name for name in PROXY_FILES] + folders:
        text = path.read_text(errors="replace") if path.is_file() else ""
        yield f"file /{path.relative_to(root)}", any(_sets_proxy(line) for line in text.splitlines())
    shown = _run("systemctl", "show-environment") or ""
    yield "environment of systemd", any(_sets_proxy(line) for line in shown.splitlines())
    shown = _run("apt-config", "dump") or ""
    yield "settings of apt", any(_sets_proxy(line) for line in shown.splitlines())


def _sets_proxy(line: str) -> bool:
    found = PROXY_WORD.match(line)
    return found is not None and found["value"].lower() not in NO_PROXY


def _sockets(path: Path, state: str) -> Iterator[tuple[str, int]]:
    lines = path.read_text().splitlines()[1:] if path.is_file() else []
    for words in (line.split() for line in lines):
        packed, _, port = words[1].partition(":")
        address = _unpacked(packed)
        if words[3] == state and not (address.startswith("127.") or address == "::1"):
            yield address, int(port, 16)


def _unpacked(packed: str) -> str:
    """Turn the kernel's form, words of four bytes in this machine's order, into an address."""
    words = [bytes.fromhex(packed[start : start + 8])[::-1] for start in range(0, len(packed), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def _nft(*words: str, stdin: str | None = None) -> str | None:
    return _run("nft", *words, stdin=stdin)


def _run(*words: str, stdin: str | None = None) -> str | None:
    """Return what a program says, or nothing when it fails or is not there."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            words, input=stdin, capture_output=True, text=True, timeout=10, check=False, env={"PATH": path}
        )
        return done.stdout if done.returncode == 0 else None
    return None
