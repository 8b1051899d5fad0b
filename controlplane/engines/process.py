"""Runs on this host: one process each, in a session of its own, that outlives whoever started it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from controlplane.engines.port import Abilities, EngineState, ObservedRun, RunOrder
from controlplane.engines.process_records import Record, Records
from controlplane.engines.procfs import Process, boot_id, read_process, send_signal, session_members
from controlplane.engines.scheduler import UsedGpus
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput, Refused, Unavailable
from controlplane.kit.nvml import Gpu, NoNvml, list_gpus

LAUNCHER = Path(__file__).with_name("process_launch.py")
KEEP_ENDED_S = 3600.0
TIME_LIMIT_GRACE_S = 30.0
LOCK_TRIES = 100
SYSTEM_CLOCK = SystemClock()


class ProcessEngine:
    """`environment` is what every run gets beside its own; `node` is this host's name; `clock` counts since boot.

    What an order says of user, QOS, CPUs and memory means nothing here: all runs are this user's. Account and partition
    are written down for who counts what was used.
    """

    abilities = Abilities(name="process", many_nodes=False, isolates_gpus=False, instant_start=True)

    def __init__(
        self,
        state_dir: Path,
        *,
        node: str,
        environment: Mapping[str, str],
        clock: Callable[[], float],
        find_gpus: Callable[[], tuple[Gpu, ...]] = list_gpus,
        now: Callable[[], datetime] = SYSTEM_CLOCK.now,
    ) -> None:
        self._records = Records(state_dir)
        self._node = node
        self._environment = dict(environment)
        self._clock = clock
        self._find_gpus = find_gpus
        self._now = now
        self._boot = boot_id()

    async def start(self, order: RunOrder) -> ObservedRun:
        """Start the run, or return the one that already has this name. Raises Refused or Unavailable."""
        for _try in range(LOCK_TRIES):
            with self._records.locked() as is_ours:
                if is_ours:
                    return self._start_once(order)
            await asyncio.sleep(0.05)
        raise Unavailable(
            f"another process holds {self._records.folder}", remedy="run one reconciler for one state folder"
        )

    async def observe(self) -> dict[str, ObservedRun]:
        """Return every run that is remembered; end those that are past their time. Raises Unavailable."""
        return {record.name: self._look(record) for record in self._records.list() if not self._is_pruned(record)}

    async def stop(self, name: str, *, grace_s: float) -> None:
        """Send SIGTERM now; `observe` sends SIGKILL once `grace_s` has passed."""
        record = self._records.find(name)
        if record is not None and self._look(record).state is not EngineState.ENDED:
            self._ask_to_stop(record, grace_s)

    async def list_used(self, since: datetime) -> tuple[UsedGpus, ...]:
        """Return every run with GPUs that was alive after `since`, as a scheduler does. Raises Unavailable."""
        runs = [(record, self._look(record)) for record in self._records.list() if record.gpus and record.started_at]
        return tuple(
            _to_used(record, run, run.started_at)
            for record, run in runs
            if run.started_at is not None and (run.ended_at is None or run.ended_at > since)
        )

    def _start_once(self, order: RunOrder) -> ObservedRun:
        if (known := self._records.find(order.name)) is not None:
            return self._look(known)
        self._check_possible(order)
        gpus = self._choose_gpus(order)
        return self._look(self._spawn(order, gpus))

    def _check_possible(self, order: RunOrder) -> None:
        if self._node in order.avoid_nodes or (order.only_nodes and self._node not in order.only_nodes):
            why = "avoided" if self._node in order.avoid_nodes else f"only {', '.join(order.only_nodes)} may be used"
            raise Refused(
                f"{self._node} is to be avoided, and the process engine has no other node",
                remedy="use an engine with more nodes, or allow this one",
                reasons=(f"{self._node}: {why}",),
            )
        if order.array:
            raise Refused(
                "the process engine runs no arrays",
                remedy="start each element as a run of its own, or use Slurm",
                reasons=(f"{self._node}: {order.name} asks for the elements {order.array}",),
            )
        if order.warning is not None and _number_of(order.warning.signal) is None:
            raise BadInput(f"there is no signal {order.warning.signal!r}", remedy="name one such as USR1")

    def _choose_gpus(self, order: RunOrder) -> list[Gpu]:
        if order.gpus == 0:
            return []
        try:
            present = self._find_gpus()
        except NoNvml as error:
            raise Refused(
                f"{order.gpus} GPUs asked for, and this host shows none",
                remedy="ask for no GPU, or install the NVIDIA driver",
                reasons=(f"{self._node}: {error}",),
            ) from None
        users = {uuid: r.name for r in self._records.list() if r.ended_at_s is None for uuid in r.gpus}
        verdicts = {gpu.uuid: _why_not(gpu, order.gpu_type, users.get(gpu.uuid)) for gpu in present}
        free = [gpu for gpu in present if not verdicts[gpu.uuid]]
        if len(free) < order.gpus:
            raise Refused(
                f"{order.gpus} GPUs asked for, {len(free)} free on {self._node}",
                remedy="stop another run, or ask for fewer",
                reasons=tuple(f"{uuid}: {why_not}" for uuid, why_not in verdicts.items() if why_not),
            )
        return free[: order.gpus]

    def _spawn(self, order: RunOrder, gpus: list[Gpu]) -> Record:
        reader, writer = os.pipe()
        output = self._records.open_log(order.name, order.folder)
        try:
            pid = _spawn_launcher(reader, output)
            os.close(reader)
            reader = -1
            record = self._remember(order, pid, gpus)
            visible = ",".join(gpu.uuid for gpu in gpus)
            environment = {**self._environment, **order.environment, "CUDA_VISIBLE_DEVICES": visible}
            said = {"argv": order.argv, "environment": environment, "folder": order.folder}
            with suppress(BrokenPipeError), os.fdopen(os.dup(writer), "wb") as pipe:
                pipe.write(json.dumps(said).encode())
            return record
        finally:
            for handle in (reader, writer, output):
                if handle >= 0:
                    os.close(handle)

    def _remember(self, order: RunOrder, pid: int, gpus: list[Gpu]) -> Record:
        process = read_process(pid)
        warning, started_s = order.warning, self._clock()
        record = Record(
            name=order.name,
            boot=self._boot,
            pid=pid,
            start_ticks=process.start_ticks if process is not None else 0,
            gpus=[gpu.uuid for gpu in gpus],
            started_at_s=started_s,
            time_limit_s=order.time_limit_s,
            gpu_indexes=tuple(gpu.minor for gpu in gpus),
            started_at=self._now().isoformat(),
            warning_signal=warning.signal if warning else "",
            warning_at_s=started_s + order.time_limit_s - warning.before_s if warning else None,
            folder=order.folder,
            account=order.account,
            partition=order.partition,
            gpu_type=order.gpu_type or (gpus[0].name if gpus else ""),
        )
        self._records.write(record)
        return record

    def _look(self, record: Record) -> ObservedRun:
        """Compare the record with the kernel, and act on what is overdue."""
        process = self._living(record)
        if process is not None:
            self._hurry(record, process)
        elif record.ended_at_s is None:
            self._mark_ended(record)
        state = EngineState.ENDED if record.ended_at_s is not None else EngineState.RUNNING
        return ObservedRun(
            record.name,
            f"pid:{record.pid}",
            state,
            self._node,
            record.reason,
            gpu_indexes=record.gpu_indexes,
            started_at=_read_time(record.started_at),
            ended_at=_read_time(record.ended_at),
            status=record.status,
        )

    def _living(self, record: Record) -> Process | None:
        if record.ended_at_s is not None or record.boot != self._boot:
            return None
        process = read_process(record.pid)
        if process is None or process.start_ticks != record.start_ticks or process.is_zombie:
            return None
        return process

    def _hurry(self, record: Record, process: Process) -> None:
        now = self._clock()
        if record.warning_at_s is not None and now >= record.warning_at_s:
            self._warn(record, process)
        if record.kill_at_s is None and now >= record.started_at_s + record.time_limit_s:
            record.reason = f"its time limit of {record.time_limit_s:.0f} s has passed"
            self._ask_to_stop(record, TIME_LIMIT_GRACE_S)
        if record.kill_at_s is not None and now >= record.kill_at_s:
            _kill_session(process.pid, process.start_ticks)

    def _warn(self, record: Record, process: Process) -> None:
        """Warn once: it is written down first, because a run must not be told twice of its end."""
        record.warning_at_s = None
        self._records.write(record)
        if (number := _number_of(record.warning_signal)) is not None:
            send_signal(process, number)

    def _ask_to_stop(self, record: Record, grace_s: float) -> None:
        kill_at_s = self._clock() + grace_s
        record.kill_at_s = kill_at_s if record.kill_at_s is None else min(record.kill_at_s, kill_at_s)
        self._records.write(record)
        if (process := self._living(record)) is not None:
            send_signal(process, signal.SIGTERM)

    def _mark_ended(self, record: Record) -> None:
        if record.boot == self._boot:
            _kill_session(record.pid, record.start_ticks)  # what it left behind holds GPUs
            ending, record.status = _reap(record.pid)
        else:
            ending = "the host was restarted"
        record.reason = f"{record.reason}; {ending}" if record.reason else ending
        record.ended_at_s = self._clock()
        record.ended_at = self._now().isoformat()
        record.boot = self._boot
        self._records.write(record)

    def _is_pruned(self, record: Record) -> bool:
        if record.ended_at_s is None:
            return False
        is_old = record.boot != self._boot or self._clock() - record.ended_at_s > KEEP_ENDED_S
        if is_old:
            self._records.remove(record.name)
        return is_old


def _to_used(record: Record, run: ObservedRun, started_at: datetime) -> UsedGpus:
    return UsedGpus(
        ref=record.name,
        name=record.name,
        account=record.account,
        user="",
        partition=record.partition,
        gpu_type=record.gpu_type,
        gpus=len(record.gpus),
        node=run.node,
        started_at=started_at,
        ended_at=run.ended_at,
        state=run.state.value,
    )


def _why_not(gpu: Gpu, wanted: str, user: str | None) -> str:
    if user is not None:
        return f"used by {user}"
    if wanted.lower() not in gpu.name.lower().split():
        return f"is a {gpu.name}, not a {wanted}" if wanted else ""
    return ""


def _spawn_launcher(stdin: int, output: int) -> int:
    moves = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in ((stdin, 0), (output, 1), (output, 2))]
    command = [sys.executable, "-I", "-S", str(LAUNCHER)]
    return os.posix_spawn(command[0], command, {}, file_actions=moves, setsid=True)


def _kill_session(leader: int, start_ticks: int) -> None:
    for process in session_members(leader, since_ticks=start_ticks):
        send_signal(process, signal.SIGKILL)


def _number_of(name: str) -> signal.Signals | None:
    return signal.Signals.__members__.get(f"SIG{name.removeprefix('SIG')}")


def _read_time(text: str) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _reap(pid: int) -> tuple[str, int]:
    """Return how it ended, and its status; only its parent is told, and after a restart that is not us."""
    try:
        _pid, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return "ended while another process watched", 0
    code = os.waitstatus_to_exitcode(status)
    return (f"killed by signal {-code}", 0) if code < 0 else (f"ended with status {code}", code)
