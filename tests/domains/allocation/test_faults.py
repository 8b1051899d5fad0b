"""Whatever fails and in whatever order: after things settle no lease is lost, doubled or leaked."""

import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from controlplane.contracts.admin import EndpointConfig
from controlplane.contracts.runs import RegisterRun, RenewRun, RunPhase
from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.tables import Lease, LeasedGpu
from controlplane.domains.allocation.types import Ask
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.fleet.tables import NodeObservation
from controlplane.domains.serving.loops import ServingLoops
from controlplane.domains.serving.service import endpoints, runs
from controlplane.domains.serving.tables import Replica
from controlplane.domains.serving.types import OVER, REGISTERED, ReplicaState
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import Pool, Quota, ShareKind
from controlplane.engines.port import EngineState, RunOrder
from controlplane.kit.errors import RedoubtError, Unavailable
from controlplane.kit.tx import Tx
from controlplane.migrations.roles import as_role
from tests.support.control_plane import ControlPlane, make_manifest
from tests.support.slurm_like import SlurmLike

ADA = Actor("ada", Role.PLATFORM_ADMIN, frozenset({Role.PLATFORM_ADMIN, Role.OPERATOR}), strong_at=None)
GPUS = {"gpu1": 3, "gpu2": 2}
QUOTA = 3
LEASE_S = 1e6
ROUNDS = 12  # within which a site without faults settles
SEQUENCES = 50
CHANGES = ["change_endpoint", "change_new_job", "change_new_job", "change_new_job"]  # else there is nothing to lose
SERVES = (ReplicaState.LOADING, ReplicaState.READY)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


@dataclass
class Stage:
    """A site whose endpoint and jobs run on a scheduler that fails as the dice say."""

    plane: ControlPlane
    engine: SlurmLike
    loops: ServingLoops
    superuser: AsyncEngine
    random: Random
    tokens: dict[str, str] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)  # which start of a job told of itself
    told: list[str] = field(default_factory=list)
    fails_in: int = 0  # commits until one fails; 0: none
    cuts: bool = False
    jobs: int = 0

    # what goes on anyway

    async def round(self, seconds: float = 1.0) -> None:
        """Let everybody act once; who meets a fault tries again in the next round."""
        self.plane.clock.move(seconds)
        self.engine.tick()
        for act in (self._runners, self.loops.plan, self.loops.start, self.loops.settle, self._jobs):
            try:
                await act()
            except Unavailable:
                continue

    async def settle(self) -> None:
        """Take the faults away and let things come to rest."""
        self.engine.fault, self.fails_in, self.cuts = "", 0, False
        for node, gpus in GPUS.items():
            if node in self.engine.down or self.engine.nodes[node] != gpus:
                self.engine.bring_back(node, gpus)
                await self.plane.report(node, gpus=gpus)
        before = ""
        for _ in range(ROUNDS):
            await self.round(301.0)  # longer than any pause after failures
            after = await self._summary()
            if after == before:
                return
            before = after

    async def before_commit(self, tx: Tx) -> None:
        """Fail a commit, by its own fault or because the database is gone."""
        if self.fails_in:
            self.fails_in -= 1
            if self.fails_in == 0:
                if self.cuts:
                    await tx.session.execute(text("select pg_terminate_backend(pg_backend_pid())"))
                raise Unavailable("the transaction failed", remedy="try again")

    # faults and changes

    async def fault_engine_away(self) -> None:
        self.engine.fault = "away"

    async def fault_answer_lost(self) -> None:
        self.engine.fault = "lost"  # as when the reconciler is killed between start and apply

    async def fault_engine_back(self) -> None:
        self.engine.fault = ""

    async def fault_commit_fails(self) -> None:
        self.fails_in, self.cuts = self.random.randint(1, 8), False

    async def fault_database_cut(self) -> None:
        self.fails_in, self.cuts = self.random.randint(1, 8), True

    async def fault_database_restarts(self) -> None:
        async with self.superuser.connect() as connection:
            await connection.execute(
                text("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'redoubt'")
            )

    async def fault_node_lost(self) -> None:
        self.engine.lose_node(self.random.choice(list(GPUS)))

    async def fault_node_back_smaller(self) -> None:
        for node in list(self.engine.down):
            gpus = max(1, GPUS[node] - self.random.randint(0, 2))
            self.engine.bring_back(node, gpus)
            await self.plane.report(node, gpus=gpus)

    async def fault_submitted_twice(self) -> None:
        for job in list(self.engine.jobs.values())[-2:]:
            try:
                await self.engine.start(job.order)
            except Unavailable:
                continue

    async def fault_two_reconcilers(self) -> None:
        other = ServingLoops(self.plane.database, self.engine, self.plane.loops._place)  # noqa: SLF001 - the same place
        for loops in (other, self.loops):
            try:
                await loops.start()
            except Unavailable:
                continue

    async def fault_run_dies(self) -> None:
        running = [name for name in self.engine.jobs if self.engine.runs(name)]
        if running:
            self.engine.end(self.random.choice(running), "FAILED")

    async def fault_time_passes(self) -> None:
        await self.round(4000.0)  # beyond every limit: runs and leases end

    async def fault_engine_forgets(self) -> None:
        self.engine.forget()

    async def change_endpoint(self) -> None:
        replicas, floor = self.random.randint(0, 4), self.random.randint(0, 2)
        await self._try(
            lambda tx: endpoints.revise_endpoint(tx, ADA, name="chat", replicas=replicas, config=None, floor=floor)
        )

    async def change_new_job(self) -> None:
        """Submit training of project blue, within its guarantee or beyond it."""
        self.jobs += 1
        name, gpus = f"job_{self.jobs}", self.random.randint(1, 2)
        try:
            async with self.plane.database.transaction() as tx:
                let_in = await allocation.admit(
                    tx, share="blue", pool=Pool.TRAINING, ask=Ask(gpus, "h100", 0), waits=True
                )
            order = RunOrder(
                name, ("train",), {}, gpus, "h100", let_in.time_limit_s, account="blue", qos=let_in.qos, requeues=True
            )
            await self.engine.start(order)
        except RedoubtError:
            return

    async def change_job_ends(self) -> None:
        for name in [name for name in self.engine.jobs if name.startswith("job_")][:1]:
            self.engine.end(name, "COMPLETED")

    # what agents and runs do

    async def _runners(self) -> None:
        """Let agents be heard, runs register, and those end that are told to drain or are over."""
        async with self.plane.database.transaction() as tx:
            up = NodeObservation.node.not_in(self.engine.down)
            await tx.session.execute(update(NodeObservation).where(up).values(received_at=tx.now))
            serving_on = set(await tx.session.scalars(select(Replica.id).where(Replica.state.in_(SERVES))))
        for name in [name for name in self.engine.jobs if name.startswith("replica_") and self.engine.runs(name)]:
            if name not in self.tokens:
                await self._register(name)
            elif name not in serving_on:
                self.engine.end(name, "drained")

    async def _register(self, name: str) -> None:
        job = self.engine.jobs[name]
        spec = json.loads(job.order.environment["REDOUBT_RUN_SPEC"])
        ask = RegisterRun(
            replica_id=name, nonce=spec["nonce"], job_id=str(job.number), node=job.node, host="203.0.113.11",
            port=20000, certificate_pem=CERTIFICATE, gpu_uuids=self._uuids(name),
        )  # fmt: skip
        try:
            async with self.plane.database.transaction() as tx:
                token = await runs.register_run(tx, ask=ask, lease_s=LEASE_S)
                ready = RenewRun(phase=RunPhase.READY)
                await runs.renew_run(tx, replica_id=name, token=token, ask=ready, lease_s=LEASE_S)
            self.tokens[name] = token
        except Unavailable:
            return
        except RedoubtError as error:
            self.told.append(f"{name} refused: {error.detail}")
            self.engine.end(name, "refused")

    async def _jobs(self) -> None:
        """Do what the loop of jobs does: begin a lease when a run starts, end it when it does not run."""
        async with self.plane.database.transaction() as tx:
            await allocation.expire_leases(tx, SYSTEM)
            held = {row.owner for row in await _live(tx) if row.owner.startswith("job_")}
        runs = await self.engine.observe()
        for name in held - {name for name in runs if self.engine.runs(name)}:
            await self._try(lambda tx, name=name: allocation.end_lease(tx, SYSTEM, owner=name, reason="over"))
        for name, run in runs.items():
            if name.startswith("job_") and run.state == EngineState.RUNNING and self.began.get(name) != run.restarts:
                await self._begin(name)

    async def _begin(self, name: str) -> None:
        job = self.engine.jobs[name]
        try:
            async with self.plane.database.transaction() as tx:
                await allocation.begin_lease(
                    tx, SYSTEM, owner=name, share="blue", pool=Pool.TRAINING,
                    over_quota=job.order.qos.endswith("-over"), preemptible=True, gpu_uuids=self._uuids(name),
                    node=job.node, expires_at=self.plane.clock.now() + (endpoints.RECENT * 2),
                )  # fmt: skip
            self.began[name] = job.restarts
        except Unavailable:
            return
        except RedoubtError as error:
            self.told.append(f"{name} refused: {error.detail}")
            self.engine.requeue(name, "refused")

    def _uuids(self, name: str) -> tuple[str, ...]:
        job = self.engine.jobs[name]
        return tuple(f"GPU-{job.node}-{index}" for index in job.gpus)

    async def _try(self, verb) -> None:
        try:
            async with self.plane.database.transaction() as tx:
                await verb(tx)
        except RedoubtError:
            return

    async def _summary(self) -> str:
        async with self.plane.database.transaction() as tx:
            replicas = (await tx.session.scalars(select(Replica).where(Replica.state.not_in(OVER)))).all()
            leases = await _live(tx)
        runs = [(name, job.state, job.node) for name, job in self.engine.jobs.items() if job.state != EngineState.ENDED]
        return repr([sorted((r.id, r.state) for r in replicas), sorted(lease.id for lease in leases), sorted(runs)])

    # what must be true

    async def check_always(self) -> None:
        async with self.plane.database.transaction() as tx:
            leases = await _live(tx)
            gpus = (await tx.session.scalars(select(LeasedGpu.gpu_uuid).where(LeasedGpu.released_at.is_(None)))).all()
            preempted = await tx.session.scalars(
                select(Lease).where(Lease.end_reason.like("preempted%"), ~Lease.preemptible)
            )
        assert [uuid for uuid, times in Counter(gpus).items() if times > 1] == []
        assert [owner for owner, times in Counter(row.owner for row in leases).items() if times > 1] == []
        assert sum(row.count for row in leases if row.share == "blue") <= QUOTA
        assert preempted.all() == []

    async def check_settled(self) -> None:
        """Every run that counts has its lease with its GPUs, and every lease has its run."""
        async with self.plane.database.transaction() as tx:
            leases = {row.owner: row for row in await _live(tx)}
            replicas = {r.id: r for r in await tx.session.scalars(select(Replica).where(Replica.state.not_in(OVER)))}
            held = {
                owner: set(
                    await tx.session.scalars(
                        select(LeasedGpu.gpu_uuid).where(LeasedGpu.lease_id == row.id, LeasedGpu.released_at.is_(None))
                    )
                )
                for owner, row in leases.items()
            }
        for name in [name for name in self.engine.jobs if self.engine.runs(name)]:
            if name.startswith("job_") or (name in replicas and replicas[name].state in REGISTERED):
                assert held.get(name) == set(self._uuids(name)), f"lost: the lease of {name}"
                assert leases[name].node == self.engine.jobs[name].node
            else:
                assert name in replicas, f"leaked: run {name}"
        for owner in leases:
            assert owner in replicas or self.engine.runs(owner), f"leaked: the lease of {owner}"
        registered = {name for name, replica in replicas.items() if replica.state in REGISTERED}
        assert registered <= set(leases), "lost: a lease of a replica that serves"


async def _live(tx: Tx) -> list[Lease]:
    return list(await tx.session.scalars(select(Lease).where(Lease.ended_at.is_(None))))


async def make_stage(plane: ControlPlane, database_url: str, seed: int) -> Stage:
    random = Random(seed)
    engine = SlurmLike(plane.clock, random, dict(GPUS), {"blue": QUOTA})
    loops = ServingLoops(plane.database, engine, plane.loops._place)  # noqa: SLF001 - the same place
    superuser = create_async_engine(as_role(database_url, "postgres"))
    stage = Stage(plane, engine, loops, superuser, random)
    admin = await plane.administrator()
    nodes = [
        {
            "name": name,
            "address": f"203.0.113.{i}",
            "zone": "main",
            "purposes": [],
            "gpus": [{"type": "h100", "count": n}],
        }
        for i, (name, n) in enumerate(GPUS.items(), start=11)
    ]
    async with plane.client(admin) as client:
        assert (await client.put("/nodes", json={"nodes": nodes})).is_success
        assert (await client.patch("/pools/inference", json={"max_time_s": 3600})).is_success
        assert (await client.patch("/pools/training", json={"max_time_s": 3600})).is_success
    for name, gpus in GPUS.items():
        await plane.report(name, gpus=gpus)
    async with plane.database.transaction() as tx:
        for kind, name, parent in ((ShareKind.ORGANISATION, "acme", ""), (ShareKind.PROJECT, "blue", "acme")):
            await shares.create_share(tx, ADA, kind=kind, name=name, parent=parent, weight=1, slots=9)
        await shares.set_quota(tx, ADA, quota=Quota("blue", "h100", 1, QUOTA))
        await endpoints.register_model(tx, ADA, manifest=make_manifest())
        config = EndpointConfig(model="tiny")
        await endpoints.create_endpoint(tx, ADA, name="chat", zone="main", replicas=2, config=config, floor=1)
    plane.database.before_commit(stage.before_commit)
    return stage


@pytest.mark.parametrize("seed", range(10))
async def test_no_lease_is_lost_doubled_or_leaked_whatever_fails(
    plane: ControlPlane, database_url: str, seed: int
) -> None:
    stage = await make_stage(plane, database_url, seed)
    names = [name for name in sorted(dir(Stage)) if name.startswith(("fault_", "change_"))]
    steps = [getattr(stage, name) for name in [*names, *CHANGES]]
    for number in range(SEQUENCES):
        sequence = stage.random.choices(steps, k=stage.random.randint(2, 5))
        stage.told = [f"sequence {number} of seed {seed}: {', '.join(step.__name__ for step in sequence)}"]
        for step in sequence:
            await step()
            if stage.random.random() < 0.35:
                await stage.round()
        try:
            await stage.settle()
            await stage.check_always()
            await stage.check_settled()
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *stage.told])) from error
    await stage.superuser.dispose()
