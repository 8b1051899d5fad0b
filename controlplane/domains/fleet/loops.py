"""Keeps cordoned GPUs from work on an engine that places by itself: a run of ours holds each while it is idle."""

from collections.abc import Iterable

import structlog

from controlplane.domains.fleet import rules, service, store
from controlplane.domains.fleet.types import GpuState, HeldGpu, SeenGpu
from controlplane.engines.port import Engine, EngineState, ObservedRun, RunOrder
from controlplane.kit.clock import Clock
from controlplane.kit.errors import RedoubtError, Unavailable
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Database

log = structlog.get_logger()

PREFIX = "hold_"
QOS = "hold"
LONG_S, SHORT_S = 7 * 24 * 3600, 3600  # the next round starts another; a long one fits before no maintenance
SHORT_FOR_S = 24 * 3600.0
STOP_GRACE_S = 5.0
LATE_AFTER_S = 30.0  # an idle GPU is given within one round of the scheduler
AGAIN_AFTER_S = 300.0
ARGV = ("/bin/sleep", "infinity")


class HoldLoop:
    """One round a call. All that counts is in the engine and in the cordons; what is remembered here only waits."""

    def __init__(self, database: Database, engine: Engine, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._clock = clock
        self._waiting_since: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self._short_until: dict[str, float] = {}

    async def step(self) -> None:
        """Start and end holds until each cordoned idle GPU has one. Raises Unavailable while the engine is away."""
        runs = await self._engine.observe()
        cordoned = await self._load()
        held = [self._held(run) for run in runs.values() if _is_hold(run)]
        now = self._clock.monotonic()
        tried = [
            gpu for gpu in cordoned if gpu.state == GpuState.PRESENT and self._not_before.get(gpu.node, now) <= now
        ]
        busy = _busy(runs.values())
        plan = rules.plan_holds(_keeping(tried, cordoned, held), busy, held)
        await self._mark_exposed([gpu for gpu in tried if gpu.node not in plan.give_up], busy, held)
        for node in plan.give_up:
            self._give_up(node, now)
        for name in plan.stop:
            await self._stop(name)
        for node, gpu_type in plan.start:
            await self._start(node, gpu_type)

    def _give_up(self, node: str, now: float) -> None:
        """Try once more with a short hold, which starts before a maintenance too; then leave the node alone."""
        if self._short_until.get(node, 0.0) <= now:
            self._short_until[node] = now + SHORT_FOR_S
            return
        self._short_until.pop(node)
        self._not_before[node] = now + AGAIN_AFTER_S
        log.warning("hold.given_up", node=node, again_after_s=AGAIN_AFTER_S)

    async def _mark_exposed(self, tried: list[SeenGpu], busy: set[tuple[str, int]], held: list[HeldGpu]) -> None:
        """Tell allocation where an engine could give a cordoned GPU away; one in strange hands is not given either."""
        safe = busy | {(hold.node, hold.device) for hold in held if hold.device is not None}
        async with self._database.transaction() as tx:
            await store.mark_exposed(tx, (gpu.uuid for gpu in tried if (gpu.node, gpu.device) not in safe))

    async def _load(self) -> list[SeenGpu]:
        async with self._database.transaction() as tx:
            cordons = await service.cordoned_gpus(tx)
            nodes = await service.view_fleet(tx) if cordons else []
        cordoned = [gpu for node in nodes for gpu in node.gpus if gpu.uuid in cordons]
        return [gpu for gpu in cordoned if gpu.state != GpuState.MISSING]  # another may have its number now

    def _held(self, run: ObservedRun) -> HeldGpu:
        device = run.gpu_indexes[0] if run.gpu_indexes and run.state is EngineState.RUNNING else None
        if device is None:
            since = self._waiting_since.setdefault(run.name, self._clock.monotonic())
            return HeldGpu(run.name, _node_of(run.name), None, self._clock.monotonic() - since > LATE_AFTER_S)
        self._waiting_since.pop(run.name, None)
        return HeldGpu(run.name, run.node or _node_of(run.name), device)

    async def _start(self, node: str, gpu_type: str) -> None:
        order = RunOrder(
            name=new_id(f"{PREFIX}{node}"),  # says what it is for, also while it waits and after a restart of ours
            argv=ARGV,
            environment={},
            gpus=1,
            gpu_type=gpu_type,
            time_limit_s=SHORT_S if node in self._short_until else LONG_S,
            only_nodes=(node,),
            qos=QOS,
        )
        try:
            run = await self._engine.start(order)
            log.info("hold.started", run=run.name, node=node, gpu_type=gpu_type)
        except Unavailable as error:
            log.warning("hold.start_postponed", node=node, error=error.detail)
        except RedoubtError as error:
            self._not_before[node] = self._clock.monotonic() + AGAIN_AFTER_S
            log.warning("hold.refused", node=node, error=error.detail, reasons=error.reasons)

    async def _stop(self, name: str) -> None:
        self._waiting_since.pop(name, None)
        try:
            await self._engine.stop(name, grace_s=STOP_GRACE_S)
            log.info("hold.ended", run=name)
        except Unavailable as error:
            log.warning("hold.stop_postponed", run=name, error=error.detail)


def _keeping(tried: list[SeenGpu], cordoned: list[SeenGpu], held: list[HeldGpu]) -> list[SeenGpu]:
    """A GPU that is lost, or whose node is left alone for a while, keeps the hold that it has."""
    having = {(hold.node, hold.device) for hold in held}
    return [gpu for gpu in cordoned if gpu in tried or (gpu.node, gpu.device) in having]


def _is_hold(run: ObservedRun) -> bool:
    return run.name.startswith(PREFIX) and run.state is not EngineState.ENDED


def _node_of(name: str) -> str:
    """Return "gpu1" for "hold_gpu1_6f1d9a"."""
    return name.removeprefix(PREFIX).rpartition("_")[0]


def _busy(runs: Iterable[ObservedRun]) -> set[tuple[str, int]]:
    others = (run for run in runs if run.state is not EngineState.ENDED and not _is_hold(run))
    return {(run.node, device) for run in others for device in run.gpu_indexes}
