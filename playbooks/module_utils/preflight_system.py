"""What preflight reads about the operating system of a node."""

from __future__ import annotations

import os
import platform
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.preflight_read import Unread, is_container, said, text

LEFTOVERS = [
    "var/lib/dkms/nvidia*",
    "usr/bin/nvidia-uninstall",
    "var/log/nvidia-installer.log",
    "etc/modprobe.d/nvidia-installer-*",
]
PROXY_FILES = [
    "etc/environment",
    "etc/environment.d/*",
    "etc/profile.d/*",
    "etc/apt/apt.conf",
    "etc/apt/apt.conf.d/*",
    "etc/systemd/system.conf",
    "etc/systemd/system.conf.d/*",
    "etc/wgetrc",
    "etc/pip.conf",
    "root/.curlrc",
]
PROXY = re.compile(
    r"^\s*[^#/;\s].*?(?:_proxy\s*=|::Proxy\s+|\bproxy\s*[= ])\s*(?![\"']?(?:false|none|direct))[\"']?([^\s\"';]+)",
    re.IGNORECASE,
)
BROKEN = {"half-installed", "half-configured", "unpacked", "triggers-awaited"}


def readers() -> dict[str, Any]:
    """Return every fact of this topic by its name."""
    return {
        "os.release": lambda: " ".join(platform.freedesktop_os_release().get(key, "?") for key in ("ID", "VERSION_ID")),
        "os.architecture": platform.machine,
        "os.kernel": kernel,
        "os.pending_reboot": lambda: [str(path) for path in Path("/run").glob("reboot-required")],
        "os.packages": packages,
        "os.sources": lambda: sorted(set(sources())),
        "os.sources_read": lambda: not Path("/etc/apt/apt.conf.d/90redoubt").exists(),
        "os.unattended_upgrades": unattended_upgrades,
        "os.driver_leftovers": lambda: sorted(str(path) for pattern in LEFTOVERS for path in Path("/").glob(pattern)),
        "os.modules": lambda: sorted(line.split()[0] for line in text("/proc/modules").splitlines()),
        "os.tmp_options": tmp_options,
        "os.lsm": lambda: text("/sys/kernel/security/lsm", "the kernel's security folder is not shown here").split(","),
        "os.cgroups": lambda: "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "os.fips": lambda: text("/proc/sys/crypto/fips_enabled", "this kernel has no FIPS switch"),
        "os.failed_units": failed_units,
        "os.proxies": lambda: sorted(set(proxies())),
        "node.hostname": lambda: socket.gethostname().partition(".")[0],
        "node.machine_id": lambda: text("/etc/machine-id"),
        "node.cpus": os.cpu_count,
        "node.memory_mb": lambda: int(re.findall(r"MemTotal:\s+(\d+)", text("/proc/meminfo"))[0]) // 1024,
        "node.time": time.time,
        "node.clock": clock,
    }


def kernel() -> dict[str, str]:
    """Return the running kernel and the newest one on disk, which the next boot brings."""
    found = [path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*")]
    if not found:
        raise Unread("a container has its host's kernel" if is_container() else "no kernel lies in /boot")
    numbers = {name: [int(part) for part in re.findall(r"\d+", name)] for name in found}
    return {"running": platform.release(), "newest": max(found, key=lambda name: numbers[name])}


def packages() -> dict[str, list[str]]:
    """Return packages that are held, and those that dpkg left half-way."""
    found: dict[str, list[str]] = {"held": [], "broken": []}
    name = ""
    for line in text("/var/lib/dpkg/status").splitlines():
        if line.startswith("Package: "):
            name = line[9:]
        elif line.startswith("Status: "):
            want, flag, state = line[8:].split()
            if want == "hold":
                found["held"].append(name)
            if state in BROKEN or flag == "reinstreq":
                found["broken"].append(name)
    return found


def sources() -> Iterator[str]:
    """Yield the addresses of package sources that lie where a distribution keeps them."""
    folder = Path("/etc/apt")
    for path in [folder / "sources.list", *folder.glob("sources.list.d/*")]:
        if path.suffix == ".list" and path.exists():
            for line in path.read_text(errors="replace").splitlines():
                if found := re.match(r"\s*deb(?:-src)?\s+(?:\[[^]]*\]\s*)?(\S+)", line):
                    yield f"{path.name}: {found.group(1)}"
        elif path.suffix == ".sources":
            content = path.read_text(errors="replace")
            if not re.search(r"^Enabled:\s*no", content, re.IGNORECASE | re.MULTILINE):
                yield from (f"{path.name}: {uri}" for uri in re.findall(r"^URIs:\s*(\S+)", content, re.MULTILINE))


def unattended_upgrades() -> bool:
    """Tell whether apt upgrades on its own."""
    settings = dict(
        re.findall(r'^APT::Periodic::(\S+) "([^"]*)"', said(["apt-config", "dump", "APT::Periodic"]), re.MULTILINE)
    )
    return settings.get("Enable", "1") != "0" and settings.get("Unattended-Upgrade", "0") not in {"", "0"}


def tmp_options() -> list[str]:
    """Return the mount options of what holds /tmp; the last mount of a place is the one that counts."""
    mounts = [line.split() for line in text("/proc/self/mounts").splitlines()]
    holding = {where: options for _, where, _, options, *_ in mounts if where in {"/", "/tmp"}}  # noqa: S108 - the place itself is the fact
    return holding.get("/tmp", holding["/"]).split(",")  # noqa: S108 - the same


def failed_units() -> list[str]:
    """Return units that systemd gave up on."""
    return [
        line.split()[0] for line in said(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).splitlines()
    ]


def proxies() -> Iterator[str]:
    """Yield every place where a proxy is switched on."""
    for pattern in PROXY_FILES:
        for path in Path("/").glob(pattern):
            for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
                if (found := PROXY.match(line)) and "no_proxy" not in line.lower():
                    yield f"{path}: {found.group(1)}"


def clock() -> dict[str, float]:
    """Return how far chrony says this clock is from its source."""
    fields = said(["chronyc", "-n", "-c", "tracking"]).strip().split(",")
    if fields[0] == "00000000":
        raise Unread("chrony follows no source yet")
    return {"offset_s": float(fields[4]), "stratum": float(fields[2])}
