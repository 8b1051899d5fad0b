"""Convergence: bring what runs to what was asked. Load, act through the engine port, apply if the stamp still holds."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from controlplane.contracts.runs import RunSpec
from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.types import Ask
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.fleet import service as fleet
from controlplane.domains.fleet.types import NodeState, NodeView
from controlplane.domains.pki import service as pki
from controlplane.domains.serving import rules, store
from controlplane.domains.serving.service.endpoints import RECENT
from controlplane.domains.serving.tables import Endpoint, Model, Replica, Revision
from controlplane.domains.serving.types import OVER, ReplicaFact, ReplicaState
from controlplane.domains.shares import rules as share_rules
from controlplane.domains.shares.types import Pool
from controlplane.engines.port import Engine, EngineState, ObservedRun, RunOrder
from controlplane.kit.errors import Conflict, RedoubtError, Refused, Unavailable
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Database, Tx

log = structlog.get_logger()

RUN_LIMIT_S = 7 * 24 * 3600
APPEAR_WITHIN = timedelta(seconds=20)  # a started run that the engine does not list after this is gone
REGISTER_WITHIN = timedelta(minutes=10)
LOAD_WITHIN = timedelta(minutes=30)
DRAIN_WITHIN = timedelta(seconds=60)
STOP_GRACE_S = 40.0
MOST_STARTS = 50  # of one transaction, which holds the granting lock
SILENCE_COUNTS_AFTER = timedelta(seconds=15)  # the api must have listened this long before a missing renewal is one
BEAT_IS_FRESH = timedelta(seconds=3)


@dataclass(frozen=True)
class RunPlace:
    """What every run is told about this site."""

    python: str
    api_url: str
    site_ca_pem: str
    gateway_uri: str
    models_dir: str
    first_port: int
    last_port: int
    bind_host: str


@dataclass(frozen=True)
class Start:
    """A replica to start, as loaded: applied only while its stamp is still this one."""

    replica_id: str
    stamp: int
    order: RunOrder


@dataclass(frozen=True)
class Waits:
    """What is asked of runs that wait: when each lease ends, by its owner, and the longest that a run gets."""

    expiries: Mapping[str, datetime | None]
    longest_s: int


class ServingLoops:
    """One step of each loop a call; the caller repeats them."""

    def __init__(self, database: Database, engine: Engine, place: RunPlace) -> None:
        self._database = database
        self._engine = engine
        self._place = place

    async def converge(self) -> None:
        """Expire, plan, start, and settle what ended: one round over the whole site."""
        await self.expire()
        await self.plan()
        await self.start()
        await self.settle()

    async def plan(self) -> None:
        """Add wanted replicas and drain surplus ones."""
        async with self._database.transaction() as tx:
            await store.lock_converging(tx)
            await allocation.hold_granting(tx)
            closings = await allocation.list_closings(tx)
            for endpoint in await store.list_all_endpoints(tx):
                await self._plan_endpoint(tx, endpoint, closings)

    async def start(self) -> None:
        """Grant leases to wanted replicas and start their runs."""
        for start in await self._load_starts():
            try:
                run = await self._engine.start(start.order)
            except Unavailable as error:
                log.warning("replica.start_postponed", replica=start.replica_id, error=error.detail)
                continue
            except RedoubtError as error:
                await self._fail(start.replica_id, start.stamp, f"{error.detail}: {'; '.join(error.reasons)}")
                continue
            await self._mark_started(start, run)

    async def expire(self) -> None:
        """Declare replicas lost whose lease ran out, if we were there to hear them."""
        async with self._database.transaction() as tx:
            beat = await store.find_beat(tx, "api")
            if beat is None or tx.now - beat.at > BEAT_IS_FRESH or tx.now - beat.up_since < SILENCE_COUNTS_AFTER:
                return
            await allocation.hold_granting(tx)
            for replica in await store.list_silent(tx):
                await _end(tx, replica, ReplicaState.LOST, f"no renewal since its lease ended; node {replica.node}")

    async def settle(self) -> None:
        """Compare with the engine: end replicas whose run is over, stop runs that no replica needs."""
        runs = await self._engine.observe()
        async with self._database.transaction() as tx:
            await allocation.hold_granting(tx)
            unfinished = {replica.id: replica for replica in await store.list_unfinished(tx)}
            waits = Waits(await allocation.list_expiries(tx), await allocation.longest_s(tx, Pool.INFERENCE))
            overdue = [id_ for id_, replica in unfinished.items() if await _settle(tx, replica, runs.get(id_), waits)]
        for name in [*_orphans(runs, set(unfinished)), *overdue]:
            try:
                await self._engine.stop(name, grace_s=STOP_GRACE_S)
            except Unavailable as error:
                log.warning("run.stop_postponed", run=name, error=error.detail)

    async def _plan_endpoint(self, tx: Tx, endpoint: Endpoint, closings: Mapping[str, datetime]) -> None:
        replicas = await store.list_replicas(tx, endpoint.id, RECENT, lock=True)
        facts = [_to_fact(replica, closings.get(replica.node)) for replica in replicas]
        plan = rules.plan_replicas(endpoint.replicas, endpoint.revision_id, facts, tx.now, endpoint.floor)
        for _ in range(plan.add):
            await _add_replica(tx, endpoint)
        for replica in replicas:
            if replica.id in plan.drain:
                await _drain(tx, replica)
        if plan.wait_reason:
            endpoint.wait_reason = plan.wait_reason

    async def _load_starts(self) -> list[Start]:
        """Return what may start now, a few at a time. A replica without room stays wanted, with the reasons."""
        async with self._database.transaction() as tx:
            await store.lock_converging(tx)
            await allocation.hold_granting(tx)
            wanted = await store.list_starting(tx)
            if not wanted:
                return []
            revisions = await store.get_revisions(tx, {r.revision_id for r in wanted})
            starts, refused, nodes = list[Start](), set[tuple[str, str]](), await fleet.view_fleet(tx)
            for replica in wanted:
                kind = replica.endpoint_id, replica.revision_id
                if len(starts) == MOST_STARTS or (replica.state == ReplicaState.WANTED and kind in refused):
                    continue
                revision = revisions[replica.revision_id]
                if replica.state == ReplicaState.WANTED and not await self._admit(tx, replica, revision):
                    refused.add(kind)
                    continue
                try:
                    starts.append(await self._prepare(tx, replica, revision, nodes))
                except Conflict as lost:
                    await _end(tx, replica, ReplicaState.FAILED, lost.detail)
            return starts

    async def _admit(self, tx: Tx, replica: Replica, revision: Revision) -> bool:
        endpoint = await tx.session.get_one(Endpoint, replica.endpoint_id)
        copies = await store.list_replicas(tx, endpoint.id, RECENT)
        facts = [_to_fact(copy) for copy in copies]
        replica.yields = rules.is_above_floor(endpoint.floor, revision.id, facts, tx.now)
        if revision.gpus and not await self._grant(tx, endpoint, replica, _ask(revision, endpoint, copies)):
            return False
        endpoint.wait_reason = ""
        replica.nonce = secrets.token_urlsafe(32)
        _move(tx, replica, ReplicaState.STARTING)
        replica.started_at = tx.now
        return True

    async def _grant(self, tx: Tx, endpoint: Endpoint, replica: Replica, ask: Ask) -> bool:
        """Take GPUs for a replica. Where only preemption makes room, the engine sees to that."""
        try:
            admission = await allocation.admit(
                tx,
                share=endpoint.project,
                pool=Pool.INFERENCE,
                ask=ask,
                yields=replica.yields,
                firm=not replica.yields,
                preempts=self._engine.abilities.many_nodes,  # the one-box engine ends nobody for another
            )
        except Refused as refusal:
            if refusal.code == "beyond_guarantee":
                endpoint.wait_reason = rules.beyond_guarantee(endpoint.name, endpoint.project)
            else:
                endpoint.wait_reason = f"waits for GPUs: {'; '.join(refusal.reasons)}. {refusal.remedy}"
            return False
        replica.time_limit_s = min(RUN_LIMIT_S, admission.time_limit_s)
        expires_at = rules.lease_ends_at(tx.now, replica.time_limit_s, waits=True)
        await allocation.grant_lease(tx, SYSTEM, owner=replica.id, ask=ask, admission=admission, expires_at=expires_at)
        return True

    async def _prepare(self, tx: Tx, replica: Replica, revision: Revision, nodes: Sequence[NodeView]) -> Start:
        """Return what the engine is told. Raises Conflict when the replica's lease is over."""
        model = await tx.session.get_one(Model, revision.model)
        endpoint = await tx.session.get_one(Endpoint, replica.endpoint_id)
        spec = self._spec(replica, revision, model, endpoint.name)
        let_in = None
        if revision.gpus:
            let_in = await allocation.admission_of(tx, owner=replica.id, ask=_ask(revision, endpoint))
        unfit = let_in.avoid_nodes if let_in else ()
        order = RunOrder(
            name=replica.id,
            argv=(self._place.python, "-m", "controlplane.main.runner", "--spec-env", "REDOUBT_RUN_SPEC"),
            environment={"REDOUBT_RUN_SPEC": spec.model_dump_json()},
            gpus=revision.gpus,
            gpu_type=let_in.gpu_type if let_in else "",
            time_limit_s=replica.time_limit_s,
            avoid_nodes=await _nodes_to_avoid(tx, endpoint, nodes, unfit),
            account=endpoint.project,
            partition=Pool.INFERENCE,
            qos=share_rules.qos_of(Pool.INFERENCE, over_quota=replica.yields),
        )
        return Start(replica.id, replica.stamp, order)

    def _spec(self, replica: Replica, revision: Revision, model: Model, served_name: str) -> RunSpec:
        place = self._place
        return RunSpec(
            replica_id=replica.id,
            nonce=replica.nonce,
            api_url=place.api_url,
            site_ca_pem=place.site_ca_pem,
            gateway_uri=place.gateway_uri,
            adapter=revision.adapter,
            model_name=served_name,
            model_path=f"{place.models_dir}/{model.sha256}/{model.file}",
            model_sha256=model.sha256,
            context_tokens=revision.context_tokens,
            parallel=revision.parallel,
            gpus=revision.gpus,
            bind_host=place.bind_host,
            first_port=place.first_port,
            last_port=place.last_port,
        )

    async def _mark_started(self, start: Start, run: ObservedRun) -> None:
        async with self._database.transaction() as tx:
            replica = await store.find_replica(tx, start.replica_id)
            if replica is not None and replica.state not in OVER and not replica.engine_ref:
                replica.engine_ref = run.ref
                await audit.record(tx, SYSTEM, "replica.started", replica.id, engine_ref=run.ref)

    async def _fail(self, replica_id: str, stamp: int, reason: str) -> None:
        async with self._database.transaction() as tx:
            replica = await store.find_replica(tx, replica_id)
            if replica is not None and replica.stamp == stamp:
                await _end(tx, replica, ReplicaState.FAILED, reason)


def _orphans(runs: dict[str, ObservedRun], unfinished: set[str]) -> list[str]:
    """Return our runs that no replica needs; what is not named like a replica is somebody else's."""
    return [
        name
        for name, run in runs.items()
        if name.startswith("replica_") and name not in unfinished and run.state != EngineState.ENDED
    ]


async def _settle(tx: Tx, replica: Replica, run: ObservedRun | None, waits: Waits) -> bool:
    """Judge one unfinished replica by its run; say whether the run must be stopped."""
    if replica.state == ReplicaState.WANTED or replica.started_at is None:
        return False
    if run is None and not (replica.engine_ref and tx.now - replica.started_at > APPEAR_WITHIN):
        return False
    if run is None or run.state == EngineState.ENDED:
        gone = replica.state == ReplicaState.DRAINING or (run is not None and rules.was_preempted(run.reason))
        state = ReplicaState.ENDED if gone else ReplicaState.FAILED
        await _end(tx, replica, state, f"its run ended: {run.reason if run else 'the engine no longer knows it'}")
        return False
    if replica.state == ReplicaState.STARTING and run.state == EngineState.WAITING:
        replica.reason = f"waits in the engine: {run.reason}"
        replica.started_at = tx.now  # the time to register counts from when it runs
        return await _waits_too_long(tx, replica, waits)
    return await _is_late(tx, replica)


async def _waits_too_long(tx: Tx, replica: Replica, waits: Waits) -> bool:
    """Renew the lease of a run that waits; one whose time was cut before a reservation starts over instead."""
    expires_at = waits.expiries.get(replica.id)
    if replica.time_limit_s < min(RUN_LIMIT_S, waits.longest_s):
        if rules.is_stale(expires_at, tx.now, replica.time_limit_s):
            await _end(tx, replica, ReplicaState.ENDED, "it no longer fits before a reservation; another asks anew")
            return True
    elif rules.is_due(expires_at, tx.now, replica.time_limit_s):
        renewed = rules.lease_ends_at(tx.now, replica.time_limit_s, waits=True)
        await allocation.renew_lease(tx, SYSTEM, owner=replica.id, expires_at=renewed)
    return False


async def _is_late(tx: Tx, replica: Replica) -> bool:
    """End a replica that does not come up in time; say whether its run must be stopped."""
    waited = tx.now - (replica.started_at or tx.now)
    if replica.state == ReplicaState.STARTING and waited > REGISTER_WITHIN:
        await _end(tx, replica, ReplicaState.FAILED, "its run did not register in time")
        return True
    if replica.state == ReplicaState.LOADING and waited > LOAD_WITHIN:
        await _end(tx, replica, ReplicaState.FAILED, "it did not become ready in time")
        return True
    return replica.draining_at is not None and tx.now - replica.draining_at > DRAIN_WITHIN


async def _add_replica(tx: Tx, endpoint: Endpoint) -> None:
    replica = Replica(
        id=new_id("replica"),
        endpoint_id=endpoint.id,
        revision_id=endpoint.revision_id,
        state=ReplicaState.WANTED,
        created_at=tx.now,
    )
    store.add(tx, replica)
    await audit.record(tx, SYSTEM, "replica.planned", replica.id, endpoint=endpoint.name)


async def _drain(tx: Tx, replica: Replica) -> None:
    """Let a registered replica finish; one that never served just ends."""
    if replica.state in (ReplicaState.WANTED, ReplicaState.STARTING):
        await _end(tx, replica, ReplicaState.ENDED, "no longer needed")
        return
    _move(tx, replica, ReplicaState.DRAINING)
    replica.draining_at = tx.now
    await audit.record(tx, SYSTEM, "replica.draining", replica.id)


async def _end(tx: Tx, replica: Replica, state: ReplicaState, reason: str) -> None:
    _move(tx, replica, state)
    replica.ended_at, replica.reason, replica.nonce = tx.now, reason[:2000], ""
    await allocation.end_lease(tx, SYSTEM, owner=replica.id, reason=reason[:200])
    await audit.record(tx, SYSTEM, f"replica.{state}", replica.id, node=replica.node, reason=replica.reason)


def _move(tx: Tx, replica: Replica, state: ReplicaState) -> None:
    log.info("replica.moved", replica=replica.id, before=replica.state, after=state.value, at=tx.now.isoformat())
    replica.state = state
    replica.stamp += 1


def _ask(revision: Revision, endpoint: Endpoint, copies: Sequence[Replica] = ()) -> Ask:
    """Ask for a replica's GPUs, away from its endpoint's other replicas and near where the model was loaded.

    None of them that is ready is ended for it.
    """
    return Ask(
        revision.gpus,
        revision.gpu_type,
        revision.gpu_memory_bytes,
        endpoint.zone,
        apart=tuple(copy.node for copy in copies if copy.node and copy.state not in OVER),
        near=frozenset(copy.node for copy in copies if copy.node and copy.revision_id == revision.id),
        time_s=RUN_LIMIT_S,
        spared=frozenset(copy.id for copy in copies if copy.state == ReplicaState.READY),
    )


def _to_fact(replica: Replica, closes_at: datetime | None = None) -> ReplicaFact:
    return ReplicaFact(
        id=replica.id,
        revision_id=replica.revision_id,
        state=ReplicaState(replica.state),
        ended_at=replica.ended_at,
        ready_at=replica.ready_at,
        yields=replica.yields,
        time_limit_s=replica.time_limit_s,
        started_at=replica.started_at,
        closes_at=closes_at,
    )


async def _nodes_to_avoid(
    tx: Tx, endpoint: Endpoint, nodes: Sequence[NodeView], unfit: Sequence[str]
) -> tuple[str, ...]:
    """Return compute nodes of another zone, unfit, silent, revoked, or not heard of since they lost a replica."""
    lost_at = {
        replica.node: replica.ended_at
        for replica in await store.list_replicas(tx, endpoint.id, rules.AVOID_FOR)
        if replica.state == ReplicaState.LOST and replica.ended_at
    }
    out = {*unfit, *(refusal.node for refusal in await pki.list_refusals(tx) if refusal.before is None)}
    return tuple(
        node.name
        for node in nodes
        if node.gpus
        and node.state != NodeState.UNDECLARED
        and (node.name in out or node.zone != endpoint.zone or rules.is_doubtful(node, lost_at.get(node.name)))
    )
