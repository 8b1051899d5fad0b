"""The processes of a bench: started on one core, read from /proc, ended with their stack."""

import os
import resource
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE, LOAD_CORE = CORES[0], CORES[-1]
_MOST_FILES = 65_536
_MOST_STREAMS = 10_000
_START_S = 60.0


def cpu_s(root: int | None) -> float:
    """Return the CPU time of all threads of a process and its descendants; None is the direct call, which has none."""
    return 0.0 if root is None else sum(_scheduled_ns(pid) for pid in _tree(root)) / 1e9


def memory_mib(root: int | None) -> float:
    """Return the proportional set size of a process and its descendants."""
    return 0.0 if root is None else sum(_pss_kib(pid) for pid in _tree(root)) / 1024


def _tree(root: int) -> Iterator[int]:
    yield root
    with suppress(OSError):
        for thread in Path(f"/proc/{root}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))


def _scheduled_ns(pid: int) -> int:
    total = 0
    with suppress(OSError):  # a thread may end meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total


def _pss_kib(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Pss:")[2].split()[0])
    return 0


def allow_many_files() -> int:
    """Let this process, and all that it starts, open what it may; return how many streams a gateway can hold so."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_FILES, max(most, _MOST_FILES)))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MOST_STREAMS, (allowed - 1_000) // 2)  # two sockets each, and what is kept open between requests


class Stage:
    """Starts processes; every one ends with the stack. What they say is in `log`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.log = folder / "processes.log"
        self._stack = stack

    def python(self, core: int, module: str, *arguments: str, program: str = sys.executable) -> int:
        """Start a module of this repository; return its process id."""
        paths = {"PYTHONPATH": os.pathsep.join((str(Path.cwd()), sysconfig.get_path("purelib")))}
        return self.program(core, program, "-m", module, *arguments, environment=paths)

    def program(self, core: int, *command: str, environment: dict[str, str] | None = None) -> int:
        """Start a program; return its process id."""
        log = self._stack.enter_context(self.log.open("ab"))
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(core), *command],  # also when the bench is killed
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._stack.callback(_end, process)
        return process.pid


def _end(process: "subprocess.Popen[bytes]") -> None:
    end_tree(process.pid)
    process.wait()


def end_tree(root: int) -> None:
    """Kill a process and its descendants, the youngest first."""
    for pid in reversed(list(_tree(root))):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)


def measured_python() -> str:
    """Return what gateways run on here as on a site: the distribution's build of this version, where there is one.

    It is built with a profile of itself, and takes a sixth less for the same work than a build without.
    """
    name = f"python3.{sys.version_info.minor}"
    return next(
        (found for found in (f"/usr/bin/{name}", f"/usr/local/bin/{name}") if Path(found).exists()), sys.executable
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until something listens. Raises TimeoutError."""
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")
