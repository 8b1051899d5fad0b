"""One start of a job from its registration to its end. Neither our control plane nor the scheduler keeps it alive."""

import asyncio
import secrets
import shutil
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import structlog

from controlplane.contracts.jobs import JobPhase, JobSpec, RegisterJobRun
from controlplane.runner.gpus import own_gpus
from controlplane.runner.job_command import Command, number_of
from controlplane.runner.job_link import START_REFUSED, JobLink, connect
from controlplane.runner.job_output import Output, ship_leftovers
from controlplane.runner.job_spool import Buffer, Spool
from controlplane.runner.surroundings import RunOver

STOPPED = 143  # 128 and SIGTERM: ended before there was a command
LAST_GRACE_S = 10.0  # between SIGTERM and SIGKILL, at the end of a stop
QUIET = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)  # what may come by itself and would end a supervisor

log = structlog.get_logger()


@dataclass(frozen=True)
class JobSurroundings:
    """What a supervisor finds around itself; read once by `main`. `index` is None outside an array."""

    engine_ref: str
    node: str
    index: int | None
    restarts: int
    environment: Mapping[str, str]
    now: Callable[[], datetime]


async def supervise(spec: JobSpec, around: JobSurroundings) -> int:
    """Run the command; return its status, or why there was none (see `job_link` and above)."""
    run_id = spec.job_id if around.index is None else f"{spec.job_id}.{around.index}"
    async with connect(spec) as http:
        start = _Start(spec, around, run_id, http)
        try:
            await start.register()
            return await start.live()
        except RunOver as over:
            log.warning("job.over", run=run_id, status=over.exit_code, detail=over.detail)
            return STOPPED if start.is_stopped else over.exit_code


class _Start:
    """What lives as long as the start does."""

    def __init__(self, spec: JobSpec, around: JobSurroundings, run_id: str, http: httpx.AsyncClient) -> None:
        self._spec, self._around, self._run_id, self._http = spec, around, run_id, http
        self._token = secrets.token_urlsafe(32)
        self._link = JobLink(http, run_id, around.restarts, self._token, renew_s=spec.renew_s)
        self._stop = asyncio.Event()
        self._warned = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in QUIET:
            loop.add_signal_handler(number, _nothing)
        if spec.signal:
            loop.add_signal_handler(number_of(spec.signal), self._warned.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            if not spec.signal or number != number_of(spec.signal):
                loop.add_signal_handler(number, self._stop.set)

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    async def register(self) -> None:
        """Tell which GPUs the driver shows, and wait to be let in. Raises RunOver."""
        gpus = own_gpus(self._spec.gpus, self._around.environment)
        if gpus.problem:
            log.warning("job.gpus", run=self._run_id, problem=gpus.problem)
        ask = RegisterJobRun(
            run_id=self._run_id,
            nonce=self._spec.nonce,
            token=self._token,
            engine_ref=self._around.engine_ref,
            node=self._around.node,
            restarts=self._around.restarts,
            gpu_uuids=gpus.uuids,
        )
        registering, stopping = asyncio.create_task(self._link.register(ask)), asyncio.create_task(self._stop.wait())
        await asyncio.wait((registering, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not registering.done():
            registering.cancel()
            raise RunOver(STOPPED, "stopped before it was let in")
        registering.result()
        if gpus.problem:
            await self._link.say_last(JobPhase.REFUSED, detail=gpus.problem)
            raise RunOver(START_REFUSED, gpus.problem)

    async def live(self) -> int:
        """Start the command, pass on what comes, wait for its end, ship its last words."""
        home = Path(self._spec.home)
        spool, checkpoints, scratch = await self._prepare(home)
        output = Output(Buffer(self._spec.log_bytes, self._around.now), spool, self._link)
        background = [
            asyncio.create_task(self._link.keep_in_touch()),
            asyncio.create_task(_quietly(ship_leftovers(home / "jobs", self._http, self._spec.renew_s))),
        ]
        try:
            environment = self._environment(home, checkpoints, scratch)
            command = await Command.start(self._spec.command, home, environment, output.put)
            background += self._pass_on(command)
            status = await command.ended()
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        log.info("job.command_ended", run=self._run_id, status=status)
        last = self._link.say_last(JobPhase.ENDED, status=status)
        await asyncio.gather(output.finish(f"the command ended with status {status}"), last)
        return status if status != START_REFUSED else 1  # a command does not choose to queue again

    async def _prepare(self, home: Path) -> tuple[Spool, Path, Path]:
        """Make the folders of this start: checkpoints stay, temporary files go. Raises RunOver when that cannot be."""
        identity = {"run_id": self._run_id, "restarts": self._around.restarts, "token": self._token}
        checkpoints, scratch = home / "checkpoints" / self._run_id, home / "tmp" / self._run_id
        try:
            checkpoints.mkdir(mode=0o700, parents=True, exist_ok=True)
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)  # of a start that was killed
            scratch.mkdir(mode=0o700, parents=True)
            folder = home / "jobs" / f"{self._run_id}.{self._around.restarts}"
            return Spool.make(folder, identity, self._spec.spool_bytes), checkpoints, scratch
        except OSError as error:
            problem = f"the project's folder {home} on {self._around.node} cannot be used: {error.strerror}"
            await self._link.say_last(JobPhase.REFUSED, detail=problem)
            raise RunOver(START_REFUSED, problem) from None

    def _pass_on(self, command: Command) -> list[asyncio.Task[None]]:
        """Pass the checkpoint's signal, a stop and the end of our right on to the command, for as long as it lives."""
        ways = (self._pass_warning(command), self._pass_stop(command), self._kill_superseded(command))
        return [asyncio.create_task(way) for way in ways]

    async def _pass_warning(self, command: Command) -> None:
        await self._warned.wait()
        log.info("job.checkpointing", run=self._run_id)
        command.signal(number_of(self._spec.signal))
        self._link.say(JobPhase.CHECKPOINTING)

    async def _pass_stop(self, command: Command) -> None:
        """Warn, ask, kill; the engine does the last by itself, a moment later."""
        ways = [asyncio.create_task(event.wait()) for event in (self._stop, self._link.told_to_stop)]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        log.info("job.stopping", run=self._run_id)
        left_s = max(self._spec.stop_grace_s - LAST_GRACE_S / 2, LAST_GRACE_S / 2)
        if self._spec.signal and not self._warned.is_set():  # whoever stops it may not have warned it
            self._warned.set()
            await asyncio.sleep(left_s - LAST_GRACE_S)
            left_s = LAST_GRACE_S
        command.signal_all(signal.SIGTERM)
        await asyncio.sleep(left_s)
        command.signal_all(signal.SIGKILL)

    async def _kill_superseded(self, command: Command) -> None:
        await self._link.superseded.wait()
        log.warning("job.superseded", run=self._run_id)
        command.signal_all(signal.SIGKILL)

    def _environment(self, home: Path, checkpoints: Path, scratch: Path) -> dict[str, str]:
        spec, around = self._spec, self._around
        ours = {
            "REDOUBT_JOB_ID": spec.job_id,
            "REDOUBT_RUN_ID": self._run_id,
            "REDOUBT_RESTARTS": str(around.restarts),
            "REDOUBT_CHECKPOINT_DIR": str(checkpoints),
        }
        if around.index is not None:
            ours["REDOUBT_ARRAY_INDEX"] = str(around.index)
        if spec.first_port:
            ours |= {"REDOUBT_PORT_FIRST": str(spec.first_port), "REDOUBT_PORT_LAST": str(spec.last_port)}
        return {"HOME": str(home), "TMPDIR": str(scratch), **around.environment, **spec.environment, **ours}


async def _quietly(work: Coroutine[None, None, None]) -> None:
    """Do what nobody waits for; a file that is gone meanwhile is no reason to fail."""
    with suppress(OSError):
        await work


def _nothing() -> None:
    return None
