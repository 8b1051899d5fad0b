"""The control plane over a real database, through ASGI, with an engine that behaves and starts nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from sqlalchemy import select, update

from controlplane.api.app import Surroundings, make_admin_app, make_machine_app
from controlplane.console.app import add_console
from controlplane.contracts.admin import ModelManifest
from controlplane.contracts.agent import GpuReading, HostReading, LostGpu, NodeReport
from controlplane.domains.audit.types import NEWCOMER, Role
from controlplane.domains.factors.service import Means
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.tables import Principal, RoleGrant, Session, Token
from controlplane.domains.identity.types import IssuedTokens
from controlplane.domains.serving.loops import RunPlace, ServingLoops
from controlplane.engines.port import Abilities, EngineState, ObservedRun, RunOrder
from controlplane.engines.slurm.job import read_indexes
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import Refused, Unavailable
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Database, Tx
from controlplane.web.oidc.issuer import Issuer
from controlplane.web.peer import Peer
from tests.support.machines import make_authority, make_leaf
from tests.support.means import ORIGIN, make_means

SITE = "testsite"
NAMES = frozenset({"api", "127.0.0.1", "console.testsite.example"})
GIB = 1024**3


class TestClock:
    """Time that a test moves."""

    __test__ = False

    def __init__(self) -> None:
        self._shift = timedelta(0)

    def now(self) -> datetime:
        return SystemClock().now() + self._shift

    def monotonic(self) -> float:
        return SystemClock().monotonic() + self._shift.total_seconds()

    def move(self, seconds: float) -> None:
        self._shift += timedelta(seconds=seconds)


@dataclass
class TableEngine:
    """An engine that keeps its promise (a name starts once) in a table, and can be away.

    Once `devices` says how many GPUs each node has, it gives them out by number, the lowest free one first, and what
    finds none waits, or is refused where it `refuses`. `taken` are GPUs in use by what is not ours; what asks for more
    than `longest_s` waits, as before a maintenance.
    """

    abilities: Abilities = field(default=Abilities("table", many_nodes=True, isolates_gpus=True, instant_start=True))
    runs: dict[str, ObservedRun] = field(default_factory=dict)
    orders: list[RunOrder] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    away: bool = False
    devices: dict[str, int] = field(default_factory=dict)
    taken: set[tuple[str, int]] = field(default_factory=set)
    longest_s: int = 30 * 24 * 3600
    refuses: bool = False
    queues: bool = False  # what starts waits until the test begins it

    async def start(self, order: RunOrder) -> ObservedRun:
        self._answer()
        names = [f"{order.name}.{index}" for index in read_indexes(order.array)] or [order.name]
        if names[0] not in self.runs:
            self.orders.append(order)
            placed = self._place(order, f"job-{len(self.orders)}")
            if self.refuses and placed.state is EngineState.WAITING:
                self.orders.pop()
                raise Refused("no GPU is free", remedy="wait", reasons=("table: none is free",))
            self.runs |= {name: replace(placed, name=name) for name in names}
        return self.runs[names[0]]

    def begin(self, name: str, node: str, *gpus: int) -> None:
        """Let a run that waits run on these GPUs."""
        self.runs[name] = replace(
            self.runs[name], state=EngineState.RUNNING, node=node, reason="running", gpu_indexes=gpus
        )

    def requeue(self, name: str, reason: str = "pending, BeginTime") -> None:
        """Let a run wait for its next start, as preemption and a lost node do."""
        run = self.runs[name]
        self.runs[name] = replace(
            run, state=EngineState.WAITING, node="", reason=reason, gpu_indexes=(), restarts=run.restarts + 1
        )

    async def observe(self) -> dict[str, ObservedRun]:
        self._answer()
        for order in () if self.queues else self.orders:
            if self.runs[order.name].state is EngineState.WAITING:
                self.runs[order.name] = self._place(order, self.runs[order.name].ref)
        return dict(self.runs)

    def _place(self, order: RunOrder, ref: str) -> ObservedRun:
        if self.queues:
            return ObservedRun(order.name, ref, EngineState.WAITING, "", "pending, Resources")
        if not self.devices or not order.gpus:
            node = order.only_nodes[0] if order.only_nodes else "gpu1"
            return ObservedRun(order.name, ref, EngineState.RUNNING, node, "")
        for node in order.only_nodes or sorted(set(self.devices) - set(order.avoid_nodes)):
            free = [index for index in range(self.devices.get(node, 0)) if (node, index) not in self._in_use()]
            if len(free) >= order.gpus and order.time_limit_s <= self.longest_s:
                given = tuple(free[: order.gpus])
                return ObservedRun(order.name, ref, EngineState.RUNNING, node, "", gpu_indexes=given)
        return ObservedRun(order.name, ref, EngineState.WAITING, "", "Resources")

    def _in_use(self) -> set[tuple[str, int]]:
        live = [run for run in self.runs.values() if run.state is EngineState.RUNNING]
        return self.taken | {(run.node, index) for run in live for index in run.gpu_indexes}

    async def stop(self, name: str, *, grace_s: float) -> None:
        self._answer()
        del grace_s
        self.stopped.append(name)
        for run in [run for run in self.runs if run == name or run.startswith(f"{name}.")]:
            self.end(run)

    def end(self, name: str, *, status: int = 0, reason: str = "ended") -> None:
        if name in self.runs:
            self.runs[name] = replace(self.runs[name], state=EngineState.ENDED, reason=reason, status=status)

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the engine is away", remedy="wait")


@dataclass
class ControlPlane:
    """What a test of a face or a loop needs."""

    database: Database
    clock: TestClock
    engine: TableEngine
    loops: ServingLoops
    admin_app: FastAPI
    machine_app: FastAPI
    means: Means

    @asynccontextmanager
    async def client(self, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Speak to the admin API, with a key or as nobody."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(self.admin_app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api/api/v1", headers=headers, trust_env=False
        ) as client:
            yield client

    @asynccontextmanager
    async def machine(self, kind: str, name: str, *, site: str = SITE) -> AsyncIterator[httpx.AsyncClient]:
        """Speak to the machine API as the holder of a certificate."""
        transport = httpx.ASGITransport(self.as_machine(kind, name, site=site))
        async with httpx.AsyncClient(transport=transport, base_url="http://api/api/v1", trust_env=False) as client:
            yield client

    async def seal(self) -> None:
        """Let the first start be over, as it is on a site that works, and leave no other trace."""
        async with self.database.transaction() as tx:
            now = tx.now
            tx.session.add(
                Principal(id="glass", kind="breakglass", name="x", project="", created_at=now, enrolled_at=now)
            )

    def as_machine(self, kind: str, name: str, *, site: str = SITE):
        """Return the machine API as it looks to the holder of a certificate."""
        return _as_peer(self.machine_app, peer_of(self, kind, name, site))

    async def administrator(self) -> str:
        """Return the first administrator's access token."""
        return await self.person(Role.PLATFORM_ADMIN, Role.OPERATOR, name="ada")

    async def person(self, *roles: Role, name: str = "", project: str = "", strong: bool = True) -> str:
        """Make somebody who holds these roles and return an access token; `strong` is a second factor shown now.

        Unlike a real one it does not end, because tests move the clock.
        """
        made = await self.signed_in(*roles, name=name, project=project, strong=strong)
        async with self.database.transaction() as tx:
            never = tx.now + timedelta(days=3650)
            await tx.session.execute(update(Token).values(expires_at=never).where(Token.session_id == made.session_id))
            endless = {"idle_expires_at": never, "absolute_expires_at": never}
            await tx.session.execute(update(Session).values(endless).where(Session.id == made.session_id))
        return made.access

    async def signed_in(
        self, *roles: Role, name: str = "", project: str = "", strong: bool = True, kind: str = "user"
    ) -> IssuedTokens:
        """Make somebody who holds these roles and return a whole session. A name that is known signs in again."""
        wanted = name or f"{'-'.join(roles)}-{new_id('p')[-6:]}"
        async with self.database.transaction() as tx:
            principal_id = await _somebody(tx, wanted, project, roles, kind)
            return await sessions.start_session(
                tx,
                NEWCOMER,
                principal_id=principal_id,
                methods=("password", "totp") if strong else ("password",),
                client="cli",
                source="test",
                strong=strong,
            )

    async def report(self, node: str, *, gpus: int = 2, name: str = "NVIDIA H100 80GB HBM3", lost: int = 0) -> None:
        """Send an agent's report for a node."""
        async with self.machine("node", node) as client:
            answer = await client.post(
                "/agent/reports", json=make_report(self.clock, node, gpus, name, lost).model_dump(mode="json")
            )
        assert answer.status_code == httpx.codes.NO_CONTENT, answer.text


def make_control_plane(database_url: str, *, names: frozenset[str] = NAMES) -> ControlPlane:
    clock = TestClock()
    database = Database(database_url, clock, pool=5)
    engine = TableEngine()
    authority, issuer = make_authority(SITE), Issuer(ORIGIN, Ed25519PrivateKey.generate())
    means = make_means(database_url, clock)
    given = Surroundings(SITE, database, 10.0, None, means, names=names, authority=authority, issuer=issuer)
    place = RunPlace(
        "python", "https://ctl1:8443", "PEM", "redoubt://testsite/zone/north/service/gateway", "/models", 1, 2, ""
    )
    admin_app = make_admin_app(given)
    add_console(admin_app)
    return ControlPlane(
        database,
        clock,
        engine,
        ServingLoops(database, engine, place),
        admin_app,
        make_machine_app(given),
        means,
    )


async def _somebody(tx: Tx, name: str, project: str, roles: tuple[Role, ...], kind: str) -> str:
    known = await tx.session.scalar(select(Principal.id).where(Principal.kind == kind, Principal.name == name))
    if known is not None:
        return known
    row = Principal(
        id=new_id("user"),
        kind=kind,
        name=name,
        project=project,
        created_at=tx.now,
        enrolled_at=tx.now,
        disabled_at=None,
    )
    tx.session.add(row)
    await tx.session.flush()
    for role in roles:
        tx.session.add(
            RoleGrant(id=new_id("grant"), principal_id=row.id, role=role, granted_by="test", granted_at=tx.now)
        )
        await tx.session.flush()
    return row.id


def make_report(clock: TestClock, node: str, gpus: int, name: str, lost: int) -> NodeReport:
    """Return a report in which the last `lost` of `gpus` cards do not answer."""
    host = HostReading(
        hostname=node,
        boot_id="boot",
        uptime_s=1,
        cpus=2,
        load_1m_milli=0,
        memory_total_bytes=GIB,
        memory_available_bytes=GIB,
        disk_total_bytes=GIB,
        disk_free_bytes=GIB,
    )
    readings = tuple(
        GpuReading(
            index=i,
            uuid=f"GPU-{node}-{i}",
            name=name,
            serial=None,
            pci_bus_id=f"0000:0{i}:00.0",
            memory_total_bytes=80 * GIB,
            memory_used_bytes=0,
            utilisation_percent=0,
            temperature_c=40,
            power_w=70,
            ecc_uncorrected=0,
            recovery_action=0,
        )
        for i in range(gpus - lost)
    )
    gone = tuple(LostGpu(index=i, error="GPU is lost") for i in range(gpus - lost, gpus))
    return NodeReport(
        observed_at=clock.now(),
        sequence=int(clock.now().timestamp() * 1000),
        agent_version="0",
        host=host,
        driver="550",
        gpus=readings,
        lost_gpus=gone,
    )


def make_manifest(name: str = "tiny", *, weights: int = 10 * GIB) -> ModelManifest:
    return ModelManifest(
        name=name,
        file=f"{name}.gguf",
        sha256="ab" * 32,
        size_bytes=weights,
        format="gguf",
        licence="Apache-2.0",
        context_tokens=4096,
        weights_bytes=weights,
        kv_bytes_per_token=1000,
        vocab_tokens=32000,
    )


def peer_of(plane: ControlPlane, kind: str, name: str, site: str = SITE) -> Peer:
    leaf = make_leaf(kind, name, site=site, now=plane.clock.now())
    return Peer(site, leaf.zone, kind, name, leaf)


def _as_peer(app: FastAPI, peer: Peer):
    async def shown(scope, receive, send) -> None:
        scope["extensions"] = {"redoubt.peer": {"peer": peer}}
        await app(scope, receive, send)

    return shown
