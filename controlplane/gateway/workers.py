"""Several workers on one port: a parent that only starts them, starts dead ones again, and passes the stop on."""

import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import structlog

log = structlog.get_logger()

_SOON_S = 1.0  # a worker that died younger than this waits before its next start


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket that other workers may bind too. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    line = socket.socket(family, socket.SOCK_STREAM)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    line.bind((host, port))
    return line


class Workers:
    """`work` runs in each child and returns its exit status; its argument is a pipe that ends with the parent."""

    def __init__(self, count: int, work: Callable[[int], int], *, grace_s: float) -> None:
        self._count = count
        self._work = work
        self._grace_s = grace_s
        self._started_at: dict[int, float] = {}
        self._stopping = False
        self._lifeline, self._our_end = os.pipe()

    def run(self) -> int:
        """Keep all workers running until SIGTERM or SIGINT; return 0 when every one ended in time."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        while not self._stopping:
            while len(self._started_at) < self._count and not self._stopping:
                self._start()
            self._reap(block=True)
        return self._finish()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for pid in self._started_at:
            os.kill(pid, signal.SIGTERM)

    def _start(self) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_worker()
        self._started_at[pid] = time.monotonic()
        if self._stopping:  # the signal came between the fork and the line above
            os.kill(pid, signal.SIGTERM)
        log.info("worker.started", pid=pid)

    def _become_worker(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._our_end)
        status = 1
        try:
            status = self._work(self._lifeline)
        except Exception as error:
            log.exception("worker.failed", error=str(error))
        finally:
            os._exit(status)

    def _reap(self, *, block: bool) -> int | None:
        """Take note of one worker that ended; return its exit status."""
        try:
            pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        age_s = time.monotonic() - self._started_at.pop(pid, 0.0)
        if not self._stopping:
            log.warning("worker.died", pid=pid, status=os.waitstatus_to_exitcode(status), age_s=round(age_s, 1))
            if age_s < _SOON_S:
                time.sleep(_SOON_S)
        return os.waitstatus_to_exitcode(status)

    def _finish(self) -> int:
        worst = False
        end = time.monotonic() + self._grace_s
        while self._started_at and time.monotonic() < end:
            status = self._reap(block=False)
            if status is None:
                time.sleep(0.05)
            else:
                worst = worst or (status not in {0, -signal.SIGTERM})
        for pid in self._started_at:
            os.kill(pid, signal.SIGKILL)
            worst = True
        return int(worst)
