"""One practice machine: boot it, cut its power, shut it down. Its cgroup branch tells which processes are its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from lab import cgroups
from lab.disk import containers, node_home, root, shared, unmount_all
from lab.errors import LabError
from lab.network import BRIDGE, enter
from lab.shell import wait_until

BOOT_ATTEMPTS = 10
POWER_OFF_S = 20
LEFTOVERS = Path("/run/systemd/nspawn")
ADVICE = "practice nodes need root, cgroup2 and systemd-container"

# Own branch before nspawn starts: with --keep-unit all nodes would otherwise share one.
INTO_BRANCHES = 'for branch in $BRANCHES; do echo $$ > "$branch/cgroup.procs" || exit 1; done; exec setsid --fork "$@"'


def is_running(site: str, node: str) -> bool:
    """Tell whether the node has a living first process."""
    return leader(site, node) is not None


def leader(site: str, node: str) -> int | None:
    """Return the host's number of the node's first process."""
    for pid in cgroups.processes(site, node):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            numbers = next(line.split()[1:] for line in status if line.startswith("NSpid:"))
            if len(numbers) == 2 and numbers[1] == "1":
                return pid
    return None


def boot(site: str, node: str) -> None:
    """Start the node unless it runs; nspawn's lock lingers after a stop, so try again for a while."""
    for _ in range(BOOT_ATTEMPTS):
        if _has_come_up(site, node):
            return
        cgroups.kill(site, node)  # what an interrupted start left
        _launch(site, node)
        if _has_come_up(site, node):
            return
        time.sleep(0.3)
    raise LabError(f"practice node {node} does not boot ({ADVICE}); its console ends with:\n{console_tail(site, node)}")


def cut_power(site: str, node: str) -> None:
    """End the node at once, as if its plug was pulled; the disk stays as it was."""
    if (pid := leader(site, node)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not cgroups.processes(site, node), timeout_s=5)
    cgroups.kill(site, node)
    if cgroups.is_frozen(site, node):
        cgroups.set_frozen(site, node, frozen=False)


def power_off(site: str, node: str) -> None:
    """Shut the node down; one that takes longer than its grace loses power."""
    for pid in _supervisors(site, node):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if not wait_until(lambda: not cgroups.processes(site, node), timeout_s=POWER_OFF_S):
        cut_power(site, node)


def forget(site: str) -> None:
    """Remove what nspawn leaves on the host about the site's machines."""
    for kind in ("propagate", "unix-export"):
        for left in LEFTOVERS.glob(f"{kind}/{site}.*"):
            unmount_all(left)
            with contextlib.suppress(OSError):  # a folder that another process looks into is harmless
                left.rmdir()


def console_tail(site: str, node: str, *, lines: int = 15) -> str:
    """Return the last lines of the node's console."""
    path = node_home(site, node) / "console.log"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no console yet)"


def machine_name(site: str, node: str) -> str:
    """Name a machine so that two sites never collide on the host; neither part can hold a dot."""
    return f"{site}.{node}"


def _has_come_up(site: str, node: str) -> bool:
    """Wait while a supervisor lives and has no first process yet; a start takes well under a second."""
    wait_until(lambda: is_running(site, node) or not cgroups.processes(site, node), timeout_s=10)
    return is_running(site, node)


def _launch(site: str, node: str) -> None:
    branches = " ".join(str(branch) for branch in cgroups.make_branches(site, node))
    command = ["/bin/sh", "-c", INTO_BRANCHES, "sh", *enter(site), *_own_clock(), *_nspawn(site, node)]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "BRANCHES": branches,
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    }
    with (node_home(site, node) / "console.log").open("ab") as console:
        subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/", check=False
        )


def _own_clock() -> list[str]:
    """Let uptime start at zero: Slurm and monitoring then see a reboot."""
    if not Path("/proc/self/ns/time").exists():
        return []
    uptime_s = int(float(Path("/proc/uptime").read_text().split()[0]))
    return ["unshare", "--time", f"--boottime=-{uptime_s}", f"--monotonic=-{uptime_s}"]


def _nspawn(site: str, node: str) -> list[str]:
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={root(site, node)}",
        f"--machine={machine_name(site, node)}",
        "--boot",
        "--register=no",
        "--keep-unit",
        f"--network-bridge={BRIDGE}",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        "--kill-signal=SIGRTMIN+3",
        f"--bind={containers(site, node)}:/var/lib/containers",
        f"--bind={shared(site)}:/srv/redoubt-shared",  # stands for storage that all nodes mount
        # BPF enforces device and address limits; the keyring calls are what crun and runc need. Never CAP_SYS_TIME.
        "--capability=CAP_BPF,CAP_PERFMON,CAP_SYS_RESOURCE,CAP_IPC_LOCK",
        "--system-call-filter=bpf perf_event_open @keyring",
    ]


def _supervisors(site: str, node: str) -> list[int]:
    return [pid for pid in cgroups.processes(site, node) if _is_nspawn(pid)]


def _is_nspawn(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink().name == "systemd-nspawn"
    return False
