"""Several workers on one port: a parent that starts them, again where one died, renews them and passes the stop on."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1}
_SOON_S = 1.0  # a worker that died younger than this waits before its next start


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket that other workers may bind too. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    line = socket.socket(family, socket.SOCK_STREAM)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    line.bind((host, port))
    return line


@dataclass
class Place:
    """One worker's part of the port. The parent holds its socket too: who has connected waits for the next worker."""

    line: socket.socket
    pid: int = 0
    before: int = 0  # the worker that serves until this one listens
    ready: int = -1  # where this one says that it listens; -1 when it has


@dataclass(frozen=True)
class Start:
    """What a worker is given. `lifeline` is a pipe that ends with the parent; it calls `ready` once it listens."""

    line: socket.socket
    lifeline: int | None = None
    ready: Callable[[], None] = lambda: None


class Workers:
    """`work` runs in each child and returns its exit status. SIGHUP lets new workers take over from the old."""

    def __init__(self, lines: list[socket.socket], work: Callable[[Start], int], *, grace_s: float) -> None:
        self._places = [Place(line) for line in lines]
        self._work = work
        self._grace_s = grace_s
        self._started_at: dict[int, float] = {}
        self._lifeline, self._our_end = os.pipe()

    def run(self) -> int:
        """Keep all workers running until SIGTERM or SIGINT; return 0 when every one ended in time."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # they are waited for: none comes in between two lines
        while True:
            for place in self._places:
                if not place.pid:
                    self._start(place)
            number = signal.sigwait(_SIGNALS)
            if number in {signal.SIGTERM, signal.SIGINT}:
                return self._finish()
            if number == signal.SIGHUP:
                self._renew()
            self._relieve()
            while (ended := self._reap()) is not None:
                self._leave_place(*ended)

    def _renew(self) -> None:
        """Start a new worker in every place where none is on its way already."""
        log.info("workers.renewed")
        for place in self._places:
            if place.pid and not place.before:
                place.before = place.pid
                self._start(place)

    def _start(self, place: Place) -> None:
        place.ready, ready_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._become_worker(place, ready_end)
        os.close(ready_end)
        place.pid = pid
        self._started_at[pid] = time.monotonic()
        log.info("worker.started", pid=pid)

    def _become_worker(self, place: Place, ready_end: int) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(self._our_end)
        for other in self._places:
            if other is not place:
                other.line.close()
        status = 1
        try:
            status = self._work(Start(place.line, self._lifeline, lambda: _say_ready(ready_end)))
        except Exception as error:
            log.exception("worker.failed", error=str(error))
        finally:
            os._exit(status)

    def _relieve(self) -> None:
        """Send those away whose successors listen: they finish what they have, and no place is theirs any more."""
        for place in self._places:
            if place.ready >= 0 and _is_ready(place.ready):
                os.close(place.ready)
                place.ready = -1
                if place.before:
                    os.kill(place.before, signal.SIGHUP)  # not reaped yet, so it is no other process
                    place.before = 0

    def _reap(self) -> tuple[int, int, float] | None:
        """Return process id, exit status and age in seconds of one worker that ended."""
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        return pid, os.waitstatus_to_exitcode(status), time.monotonic() - self._started_at.pop(pid, 0.0)

    def _leave_place(self, pid: int, status: int, age_s: float) -> None:
        for place in self._places:
            if place.before == pid:
                place.before = 0
                break
            if place.pid == pid:
                self._give_place_on(place, age_s)
                break
        else:
            log.info("worker.relieved", pid=pid, status=status)
            return
        log.warning("worker.died", pid=pid, status=status, age_s=round(age_s, 1))

    def _give_place_on(self, place: Place, age_s: float) -> None:
        """The worker before serves on if this one never listened; else the place is empty."""
        if place.ready >= 0:
            os.close(place.ready)
        place.pid, place.before, place.ready = place.before, 0, -1
        if age_s < _SOON_S and not place.pid:
            _close_queue(place)
            time.sleep(_SOON_S)

    def _finish(self) -> int:
        for pid in self._started_at:
            os.kill(pid, signal.SIGTERM)
        worst = False
        end = time.monotonic() + self._grace_s
        while self._started_at and time.monotonic() < end:
            ended = self._reap()
            if ended is None:
                time.sleep(0.05)
            else:
                worst = worst or ended[1] not in {0, -signal.SIGTERM}
        for pid in self._started_at:
            os.kill(pid, signal.SIGKILL)
            worst = True
        return int(worst)


def _say_ready(ready_end: int) -> None:
    os.write(ready_end, b"1")
    os.kill(os.getppid(), signal.SIGUSR1)


def _is_ready(ready: int) -> bool:
    try:
        return os.read(ready, 1) == b"1"
    except BlockingIOError:
        return False


def _close_queue(place: Place) -> None:
    """Give the place a socket that nobody connects to before a worker listens: this one may never come up."""
    host, port = place.line.getsockname()[:2]
    place.line.close()
    place.line = bind(host, port)
