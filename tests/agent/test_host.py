import os
import socket
from pathlib import Path

import pytest

from controlplane.agent.host import read_host


def test_this_machine_is_read_from_its_kernel():
    host = read_host(Path("/"))

    assert host.hostname == socket.gethostname()
    assert host.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert host.cpus == os.cpu_count()
    assert 0 < host.memory_available_bytes <= host.memory_total_bytes
    assert 0 < host.disk_free_bytes <= host.disk_total_bytes


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/hostname").write_text("gpu1\n")
    (tmp_path / "sys/kernel/random/boot_id").write_text("9f6c\n")
    (tmp_path / "uptime").write_text("3661.97 7000.10\n")
    (tmp_path / "loadavg").write_text("1.25 0.50 0.10 1/200 4242\n")
    (tmp_path / "meminfo").write_text("MemTotal: 2048 kB\nMemAvailable: 1024 kB\nHugePages_Total: 0\n")
    return tmp_path


def test_the_kernels_units_become_ours(proc: Path):
    host = read_host(Path("/"), proc)

    assert (host.hostname, host.boot_id, host.uptime_s, host.load_1m_milli) == ("gpu1", "9f6c", 3661, 1250)
    assert (host.memory_total_bytes, host.memory_available_bytes) == (2048 * 1024, 1024 * 1024)
