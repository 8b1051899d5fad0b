"""The node itself, as the kernel tells it in /proc."""

import os
import shutil
from pathlib import Path

from controlplane.contracts.agent import HostReading

PROC = Path("/proc")


def read_host(disk: Path, proc: Path = PROC) -> HostReading:
    """Read once; `disk` is any path on the file system to measure."""
    memory = _read_meminfo(proc)
    space = shutil.disk_usage(disk)
    return HostReading(
        hostname=_read(proc / "sys/kernel/hostname"),
        boot_id=_read(proc / "sys/kernel/random/boot_id"),
        uptime_s=int(float(_read(proc / "uptime").split()[0])),
        cpus=os.cpu_count() or 1,
        load_1m_milli=round(float(_read(proc / "loadavg").split()[0]) * 1000),
        memory_total_bytes=memory["MemTotal"],
        memory_available_bytes=memory["MemAvailable"],
        disk_total_bytes=space.total,
        disk_free_bytes=space.free,
    )


def _read(path: Path) -> str:
    return path.read_text().strip()


def _read_meminfo(proc: Path) -> dict[str, int]:
    """Return the sizes of /proc/meminfo in bytes; the kernel writes kB and means 1024 (proc_meminfo(5))."""
    lines = (line.split() for line in _read(proc / "meminfo").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1] == "kB"}
