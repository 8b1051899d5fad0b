"""A real Slurm controller with a thousand nodes: the packages of the practice bundle, in namespaces of their own.

The nodes are Slurm's CLOUD nodes, which it takes to be asleep: slurmctld plans and gives out their GPUs as it does
those of machines, and no slurmd answers for them. What starts on nodes is not measured here.
"""

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.image import build_image
from lab.shell import wait_until
from practice.site import PracticeSite

GPUS_PER_NODE = 8
ADDRESS = "192.0.2.1/32"  # RFC 5737; the resolver gives out nothing on a machine that has no address but loopback
STARTED_WITHIN_S = 30.0
PARTS = re.compile(r"^(slurm|lib|liblua|perl)")  # of the bundle's packages: Slurm, and the libraries that it needs
SETTINGS = """
ClusterName=bench
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation=/run/bench/state
SlurmdSpoolDir=/run/bench/spool
SlurmctldPidFile=/run/bench/slurmctld.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=512
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
ResumeProgram=/bin/true
SuspendProgram=/bin/true
SuspendTime=3600
ResumeTimeout=3600
TreeWidth=65533
MailProg=/bin/true
NodeName=n[1-{nodes}] CPUs=64 RealMemory=512000 Gres=gpu:{type}:{gpus} State=CLOUD
PartitionName=inference Nodes=ALL Default=YES MaxTime=7-0 State=UP
"""


@dataclass(frozen=True)
class LargeSlurm:
    """A running controller; `pid` is slurmctld, the first process in its namespaces."""

    pid: int
    root: Path

    def run(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it says."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--net", "chroot", str(self.root)]
        done = subprocess.run([*inside, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout + done.stderr

    def take(self, *, jobs: int, gpus: int) -> None:
        """Fill a part of the fleet: `jobs` of `gpus` GPUs each."""
        self.run("sbatch", f"--array=1-{jobs}", f"--gres=gpu:{gpus}", "--output=/dev/null", "--wrap", "sleep 3600")
        if not wait_until(lambda: self._started() >= jobs, timeout_s=120, pause_s=1):
            raise RuntimeError(f"{self._started()} of {jobs} jobs got their GPUs")

    def controller_kib(self) -> int:
        """Return the memory that slurmctld holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0])

    def _started(self) -> int:
        return len(self.run("squeue", "--noheader", "--array", "--states=CF,R").splitlines())


@contextmanager
def large_slurm(nodes: int, gpu_type: str = "h100") -> Iterator[LargeSlurm]:
    """Run a controller of that many nodes until the end of the block. Needs root, as the practice site does."""
    with tempfile.TemporaryDirectory(prefix="redoubt-bench-slurm-") as scratch:
        place = Path(scratch)
        _unpack(PracticeSite("bench-slurm").bundle / "apt" / "pool", place / "packages")
        _configure(place / "packages" / "etc" / "slurm", nodes, gpu_type)
        for name in ("upper", "work", "root"):
            (place / name).mkdir()
        process = subprocess.Popen(_command(build_image(), place), stdin=subprocess.DEVNULL)
        try:
            yield _started(process, place / "root")
        finally:
            process.kill()
            process.wait()


def _unpack(pool: Path, into: Path) -> None:
    packages = sorted(path for path in pool.glob("*.deb") if PARTS.match(path.name))
    if not packages:
        raise RuntimeError(f"no packages in {pool}; first: make site, which makes the practice bundle")
    for package in packages:
        subprocess.run(["dpkg-deb", "--extract", package, into], check=True)
    (into / "usr" / "sbin" / "slurmctld").symlink_to("slurmctld-wlm")  # as its package does when it is installed


def _configure(folder: Path, nodes: int, gpu_type: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS.format(nodes=nodes, type=gpu_type, gpus=GPUS_PER_NODE)
    (folder / "slurm.conf").write_text(settings)
    (folder.parent / "hosts").write_text("127.0.0.1 localhost\n")
    (folder / "gres.conf").write_text(f"NodeName=n[1-{nodes}] Name=gpu Type={gpu_type} Count={GPUS_PER_NODE}\n")


def _command(image: Path, place: Path) -> list[str]:
    layers = f"lowerdir={place}/packages:{image},upperdir={place}/upper,workdir={place}/work"
    script = f"""
        ip link set lo up
        ip address add {ADDRESS} dev lo
        mount -t overlay overlay -o {layers} {place}/root
        mount -t proc proc {place}/root/proc
        mount -t tmpfs tmpfs {place}/root/run
        mkdir -p {place}/root/run/bench/state {place}/root/run/bench/spool
        exec chroot {place}/root slurmctld -D -c > {place}/slurmctld.log 2>&1
    """
    apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation=private"]
    return [*apart, "sh", "-ec", script]


def _started(process: "subprocess.Popen[bytes]", root: Path) -> LargeSlurm:
    ends_at = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < ends_at and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        found = LargeSlurm(int(children[0]), root) if children else None
        if found and _answers(found):
            return found
        time.sleep(0.2)
    log = root.parent / "slurmctld.log"
    raise RuntimeError(f"slurmctld did not start: {log.read_text()[-600:] if log.is_file() else 'it said nothing'}")


def _answers(slurm: LargeSlurm) -> bool:
    try:
        return "UP" in slurm.run("scontrol", "ping")
    except RuntimeError:
        return False
