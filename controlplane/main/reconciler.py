"""The reconciler process: convergence loops and the gateway's snapshot."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path

from controlplane.domains.allocation import service as allocation
from controlplane.domains.audit.loops import Sealer, Sweeper, TileFolder
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.budgets.loops import BudgetSweeper
from controlplane.domains.fleet.loops import HoldLoop
from controlplane.domains.health import service as health
from controlplane.domains.identity.service import sessions
from controlplane.domains.jobs.loops.converging import JobLoops, JobPlace
from controlplane.domains.metering import service as metering
from controlplane.domains.metering.loops import UsageLoop
from controlplane.domains.scheduler.loops import SchedulerLoop
from controlplane.domains.serving.loops import RunPlace, ServingLoops
from controlplane.domains.serving.service import snapshots
from controlplane.engines.port import Engine
from controlplane.engines.process import ProcessEngine
from controlplane.engines.slurm.commands import Commands
from controlplane.engines.slurm.engine import SlurmEngine
from controlplane.engines.slurm.rest import SlurmRest
from controlplane.engines.slurm.scheduler import SlurmScheduler
from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import load_signing_key
from controlplane.kit.key_file import KeyFile
from controlplane.kit.loop import run_every
from controlplane.kit.tx import Database
from controlplane.main.leaves import Leaves
from controlplane.main.machine_link import TAKE_UP_S
from controlplane.main.process import config_path, run_process
from controlplane.main.record import Recorder, start_recorder
from controlplane.main.settings import (
    ProcessEngineSettings,
    ReconcilerSettings,
    SlurmEngineSettings,
    read_settings,
)
from controlplane.main.wiring import open_database

SEAL_S = 1.0
SWEEP_S = 3600.0
PUBLISH_S = 0.2
INCIDENTS_S = 2.0
USAGE_S = 5.0
SCHEDULER_S = 10.0
LEASES_S = 5.0


async def reconcile(settings: ReconcilerSettings) -> None:
    """Converge until cancelled."""
    leaves = Leaves()
    database = open_database(settings.database, leaves)
    recorder = await start_recorder(settings.audit, "reconciler", database)
    sealer = make_sealer(settings, database, recorder)
    engine = make_engine(settings)
    loops = ServingLoops(database, engine, _place(settings))
    jobs = JobLoops(database, engine, _job_place(settings))
    try:
        await asyncio.gather(
            run_every("seal", SEAL_S, partial(_seal, sealer)),
            run_every("sweep", SWEEP_S, _make_sweeper(settings, database).step),
            run_every("converge", settings.period_s, loops.converge),
            run_every("expire", settings.period_s, loops.expire),  # a scheduler that hangs delays no failover
            run_every("holds", settings.period_s, HoldLoop(database, engine, SystemClock()).step),
            run_every("jobs", settings.period_s, jobs.converge),
            run_every("jobs.sweep", SWEEP_S, jobs.sweep),
            run_every("leases", LEASES_S, _expirer(database)),
            run_every("incidents", INCIDENTS_S, _settler(database)),
            run_every("sessions.sweep", SWEEP_S, _sweeper(database)),
            run_every("usage.sweep", SWEEP_S, _usage_sweeper(database)),
            run_every("budgets.sweep", SWEEP_S, BudgetSweeper(database).step),
            run_every("publish", PUBLISH_S, _publisher(database, settings), rests=True),
            run_every("certificates", TAKE_UP_S, leaves.take_up),
            *_accounting(settings.engine, database),
        )
    finally:
        await sealer.step(last=True)
        await recorder.close()
        await database.close()


def make_sealer(settings: ReconcilerSettings, database: Database, recorder: Recorder) -> Sealer:
    """Return the log's sealer; the log's name is the site's."""
    return Sealer(
        database,
        settings.site,
        KeyFile(settings.audit.key).get,
        SystemClock(),
        tell=recorder.sink.mark_checkpoint,
        tiles=TileFolder(settings.audit.folder / "log"),
    )


def _make_sweeper(settings: ReconcilerSettings, database: Database) -> Sweeper:
    folder = settings.audit.folder
    return Sweeper(database, folder / "segments", TileFolder(folder / "log"))


async def _seal(sealer: Sealer) -> None:
    await sealer.step()


def make_engine(settings: ReconcilerSettings) -> Engine:
    """Return the one engine that the settings name."""
    match settings.engine:
        case ProcessEngineSettings():
            return make_process_engine(settings.engine.state_dir)
        case SlurmEngineSettings() as slurm:
            return SlurmEngine(
                slurm.socket,
                slurm_tokens(slurm),
                commands=Commands(slurm.commands, slurm_tokens(slurm)),
                clock=SystemClock().monotonic,
                user=slurm.user,
                partition=slurm.partition,
                account=slurm.account,
                qos=slurm.qos,
            )


def _accounting(
    settings: ProcessEngineSettings | SlurmEngineSettings, database: Database
) -> list[Coroutine[None, None, None]]:
    """Return the loops that keep what was used, and with Slurm what it knows of shares, limits and reservations."""
    match settings:
        case ProcessEngineSettings():
            return [run_every("usage", USAGE_S, UsageLoop(database, make_process_engine(settings.state_dir)).step)]
        case SlurmEngineSettings() as slurm:
            tokens = slurm_tokens(slurm)
            rest, commands = SlurmRest(slurm.socket, tokens), Commands(slurm.commands, tokens)
            scheduler = SlurmScheduler(rest, commands, now=SystemClock().now)
            loop = SchedulerLoop(database, scheduler, allocation.wanted_scheduler)
            return [
                run_every("usage", USAGE_S, UsageLoop(database, scheduler).step),
                run_every("scheduler", SCHEDULER_S, loop.step),
            ]


def slurm_tokens(slurm: SlurmEngineSettings) -> Tokens:
    return Tokens(slurm.tokens, single=slurm.token_file, single_user=slurm.user, admin=slurm.admin)


def make_process_engine(state_dir: Path) -> ProcessEngine:
    """Return the engine of this host; runs see no more of our environment than they need."""
    return ProcessEngine(
        state_dir,
        node=socket.gethostname().partition(".")[0],
        environment={"PATH": os.environ.get("PATH", os.defpath)},
        clock=SystemClock().monotonic,
    )


def _place(settings: ReconcilerSettings) -> RunPlace:
    runner = settings.runner
    return RunPlace(
        python=str(settings.python),
        api_url=runner.api_url,
        site_ca_pem=runner.site_ca.read_text(),
        gateway_uri=runner.gateway_uri,
        models_dir=str(runner.models_dir),
        first_port=runner.first_port,
        last_port=runner.last_port,
        bind_host=runner.bind_host,
    )


def _job_place(settings: ReconcilerSettings) -> JobPlace:
    runner = settings.runner
    return JobPlace(
        python=str(settings.python),
        api_url=runner.api_url,
        site_ca_pem=runner.site_ca.read_text(),
        projects_dir=str(runner.projects_dir),
    )


def _expirer(database: Database) -> Callable[[], Awaitable[None]]:
    async def expire() -> None:
        async with database.transaction() as tx:
            await allocation.expire_leases(tx, SYSTEM)

    return expire


def _settler(database: Database) -> Callable[[], Awaitable[None]]:
    async def settle() -> None:
        async with database.transaction() as tx:
            await health.settle_incidents(tx, SYSTEM)

    return settle


def _sweeper(database: Database) -> Callable[[], Awaitable[None]]:
    async def sweep() -> None:
        async with database.transaction() as tx:
            await sessions.forget_old_tokens(tx, SYSTEM)

    return sweep


def _usage_sweeper(database: Database) -> Callable[[], Awaitable[None]]:
    async def sweep() -> None:
        async with database.transaction() as tx:
            await metering.forget_old_requests(tx, SYSTEM)

    return sweep


def _publisher(database: Database, settings: ReconcilerSettings) -> Callable[[], Awaitable[None]]:
    key = load_signing_key(settings.snapshot.key)
    lifetime = timedelta(seconds=settings.snapshot.lifetime_s)

    async def publish() -> None:
        async with database.transaction() as tx:
            await snapshots.publish_snapshot(tx, SYSTEM, site=settings.site, key=key, lifetime=lifetime)

    return publish


if __name__ == "__main__":
    run_process("reconciler", reconcile(read_settings(ReconcilerSettings, config_path("reconciler"))))
