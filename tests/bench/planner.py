"""A control plane over a fleet of any size that exists in its database alone: what a decision of placement costs."""

import asyncio
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import insert

from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.rules import claims, placement
from controlplane.domains.allocation.rules.placement import Look
from controlplane.domains.allocation.tables import Lease, LeasedGpu
from controlplane.domains.allocation.types import Ask, Site
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.fleet.tables import GpuObservation, NodeDeclaration, NodeObservation
from controlplane.domains.serving.tables import Endpoint, Model, Replica, Revision
from controlplane.domains.shares.types import Pool
from controlplane.engines.port import EngineState, ObservedRun
from controlplane.kit.tx import Tx
from tests.support.control_plane import ControlPlane, make_control_plane, make_manifest
from tests.support.database import migrate, running_server

ADA = Actor("ada", Role.OPERATOR)
GIB = 1024**3
SHARE, POOL, KIND = "redoubt", Pool.INFERENCE, "h100"


@dataclass
class Planner:
    """The verbs of placement over one fleet, each done at once; `memory_kib` is what the loaded site takes."""

    plane: ControlPlane
    runner: asyncio.Runner
    memory_kib: int = 0
    _site: Site | None = None

    def load(self) -> None:
        """Load the site and note what it takes."""
        tracemalloc.start()
        self._site = self.runner.run(self._load())
        self.memory_kib = tracemalloc.get_traced_memory()[1] // 1024
        tracemalloc.stop()

    def choose(self, gpus: int) -> bool:
        """Decide by the pure rules on what is loaded; say whether it fits."""
        site = self._site
        if site is None:
            raise RuntimeError("load first")
        claim = claims.claim_of(site, site.shares[SHARE], POOL)
        look = Look.at(Ask(gpus, KIND, 40 * GIB), claim, site.rooms, self.plane.database.now())
        return placement.choose(look, site.rooms) is not None

    def explain(self, gpus: int) -> int:
        """Explain an ask through the service; return how many GPUs it tells of."""
        return self.runner.run(self._explain(gpus))

    def grant(self, gpus: int) -> None:
        """Let work in, grant its lease, and end it: three transactions' worth in two."""
        self.runner.run(self._grant(gpus))

    def reconcile(self) -> int:
        """Do one whole round over every lease; return how many there are."""
        return self.runner.run(self._reconcile())

    async def _load(self) -> Site:
        async with self.plane.database.transaction() as tx:
            return await allocation.look_around(tx)

    async def _explain(self, gpus: int) -> int:
        async with self.plane.database.transaction() as tx:
            found = await allocation.explain(tx, ADA, share=SHARE, pool=POOL, ask=Ask(gpus, KIND, 40 * GIB))
        return len(found.gpus)

    async def _grant(self, gpus: int) -> None:
        ask = Ask(gpus, KIND, 40 * GIB)
        async with self.plane.database.transaction() as tx:
            let_in = await allocation.admit(tx, share=SHARE, pool=POOL, ask=ask)
            await allocation.grant_lease(tx, SYSTEM, owner="bench", ask=ask, admission=let_in, expires_at=None)
        async with self.plane.database.transaction() as tx:
            await allocation.end_lease(tx, SYSTEM, owner="bench", reason="bench")

    async def _reconcile(self) -> int:
        await self.plane.loops.converge()
        async with self.plane.database.transaction() as tx:
            await allocation.expire_leases(tx, SYSTEM)
            await allocation.wanted_scheduler(tx)
            return len(await allocation.list_expiries(tx))


@contextmanager
def planner(nodes: int, gpus_per_node: int, *, taken: float) -> Iterator[Planner]:
    """Give a planner over `nodes` of h100, of which the part `taken` is leased as a whole to ready replicas."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder) / "data") as url,
        asyncio.Runner() as runner,
    ):
        service_url = migrate(url)
        plane = make_control_plane(service_url)
        made = Planner(plane, runner)
        runner.run(_fill(plane, nodes, gpus_per_node, int(nodes * taken)))
        made.load()
        yield made
        runner.run(_close(plane))


async def _close(plane: ControlPlane) -> None:
    await plane.database.close()
    await plane.means.aside.close()


async def _fill(plane: ControlPlane, nodes: int, gpus: int, taken: int) -> None:
    names = [f"n{number:04d}" for number in range(nodes)]
    async with plane.database.transaction() as tx:
        await _add_nodes(tx, names, gpus)
        await _add_replicas(tx, names[:taken], gpus)
    for name in names[:taken]:
        run = ObservedRun(f"replica_{name}", name, EngineState.RUNNING, name, "", tuple(range(gpus)))
        plane.engine.runs[run.name] = run


async def _add_nodes(tx: Tx, names: list[str], gpus: int) -> None:
    declared = [
        {
            "name": name, "address": f"198.18.{number // 250}.{number % 250}", "zone": f"z{number % 4}",
            "purposes": ["compute"], "gpus": [{"type": KIND, "count": gpus, "mig": []}], "declared_at": tx.now,
        }
        for number, name in enumerate(names)
    ]  # fmt: skip
    heard = tx.now + timedelta(hours=1)  # no node falls silent while the bench runs
    seen = [
        {
            "node": name, "zone": f"z{number % 4}", "boot_id": "b", "sequence": 1, "observed_at": heard,
            "received_at": heard, "driver": "550", "host": {},
        }
        for number, name in enumerate(names)
    ]  # fmt: skip
    cards = [
        {
            "uuid": f"GPU-{name}-{i}", "node": name, "position": i, "name": "NVIDIA H100 80GB HBM3",
            "memory_total_bytes": 80 * GIB, "state": "present", "minor": i, "nvlink_island": 0, "numa_node": i // 4,
            "vbios": "", "mig": None, "reading": {"temperature_c": 40, "power_w": 70}, "seen_at": tx.now,
        }
        for name in names
        for i in range(gpus)
    ]  # fmt: skip
    for table, rows in ((NodeDeclaration, declared), (NodeObservation, seen), (GpuObservation, cards)):
        await tx.session.execute(insert(table), rows)


async def _add_replicas(tx: Tx, names: list[str], gpus: int) -> None:
    manifest = make_manifest().model_dump(exclude={"origin", "residency", "files"})
    tx.session.add(Model(**manifest, registered_at=tx.now))
    tx.session.add(
        Endpoint(
            id="endpoint_1",
            name="chat",
            zone="z0",
            project=SHARE,
            replicas=len(names),
            floor=None,
            revision_id="revision_1",
            created_at=tx.now,
        )
    )
    await tx.session.flush()
    tx.session.add(
        Revision(
            id="revision_1",
            endpoint_id="endpoint_1",
            number=1,
            model="tiny",
            adapter="llama_cpp",
            gpus=gpus,
            gpu_type=KIND,
            gpu_memory_bytes=GIB,
            context_tokens=1,
            parallel=1,
            created_at=tx.now,
        )
    )
    await tx.session.flush()
    replicas = [
        {
            "id": f"replica_{name}", "endpoint_id": "endpoint_1", "revision_id": "revision_1", "state": "ready",
            "stamp": 3, "reason": "", "nonce": "", "run_token_sha256": name, "yields": False, "time_limit_s": 604800,
            "engine_ref": name, "node": name, "host": "198.18.0.1", "port": 1, "certificate_pem": "",
            "lease_expires_at": tx.now + timedelta(days=1), "created_at": tx.now, "started_at": tx.now,
            "ready_at": tx.now,
        }
        for name in names
    ]  # fmt: skip
    leases = [
        {
            "id": f"lease_{name}", "owner": f"replica_{name}", "count": gpus, "gpu_type": KIND, "node": name,
            "share": SHARE, "pool": POOL, "over_quota": False, "preemptible": False, "granted_at": tx.now,
            "expires_at": tx.now + timedelta(days=7), "end_reason": "",
        }
        for name in names
    ]  # fmt: skip
    held = [{"lease_id": f"lease_{name}", "gpu_uuid": f"GPU-{name}-{i}"} for name in names for i in range(gpus)]
    for table, rows in ((Replica, replicas), (Lease, leases), (LeasedGpu, held)):
        if rows:
            await tx.session.execute(insert(table), rows)
