"""What all connections of one process share: the directory, the live replicas, the limits and a coarse clock."""

import asyncio
import secrets
from collections.abc import Container
from datetime import datetime
from itertools import count
from typing import Protocol

from controlplane.contracts.snapshot import Snapshot, SnapshotReplica
from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.bodies import Bodies
from controlplane.gateway.budget.budgets import Budgets, NoBudgets
from controlplane.gateway.denials import EVERY_S, Denials
from controlplane.gateway.directory import Directory, Endpoint, Grant, read_directory
from controlplane.gateway.errors import NoSnapshot, Refusal
from controlplane.gateway.limits import Limits
from controlplane.gateway.meter.metrics import Metrics
from controlplane.gateway.replica import ContextFor, Replica
from controlplane.gateway.request import Request
from controlplane.gateway.routing.neighbours import Neighbours, NoNeighbours
from controlplane.gateway.routing.runs import LocalRuns, Runs
from controlplane.gateway.routing.standing import warm_from
from controlplane.gateway.spool import Journal
from controlplane.gateway.suspects import Suspects
from controlplane.gateway.waiting.queues import NoQueues, Queues
from controlplane.kit.clock import Clock, to_us
from controlplane.kit.errors import BadInput

Identity = tuple[str, str, int, str]  # the same run at the same place, whether it drains or not


class Watched(Protocol):
    """A client's connection as the sweep sees it."""

    deadline: float

    def on_deadline(self) -> None: ...

    def finish_and_close(self) -> None: ...

    def abort(self) -> None: ...


class Hub:
    """`tick` is the loop's time, renewed by every sweep: exact enough for time limits, and free to read."""

    def __init__(self, *, limits: Limits, clock: Clock, context_for: ContextFor, journal: Journal) -> None:
        self.limits = limits
        self.journal = journal
        self.denials = Denials(journal)
        self.bodies = Bodies(limits)
        self.budgets: Budgets = NoBudgets()
        self.queues: Queues = NoQueues()
        self.suspects = Suspects()
        self.metrics = Metrics()
        self.archive: Archive | None = None
        self.content_fault: BadInput | None = None  # why there is no archive, or nothing goes into it
        self.runs: Runs = LocalRuns()
        self.neighbours: Neighbours = NoNeighbours()
        self.clock = clock
        self.time = clock.monotonic  # to the microsecond, and on the base of the loop's
        self.tick = asyncio.get_running_loop().time()
        self.draining = False  # every answer closes its connection
        self.connections: set[Watched] = set()
        self._directory: Directory | None = None
        self._replicas: dict[Identity, Replica] = {}
        self._context_for = context_for
        self._request_prefix = secrets.token_hex(6).encode()
        self._requests = count(1)

    def directory(self, now: datetime) -> Directory:
        """Return what the last snapshot allows. Raises NoSnapshot when there is none or it has expired."""
        directory = self._directory
        if directory is None:
            raise NoSnapshot(
                "this gateway has not yet had a valid snapshot from the control plane",
                remedy="try again in a few seconds; operators: read the gateway's log for snapshot.refused",
            )
        if now >= directory.expires_at:
            raise NoSnapshot(
                f"the last snapshot of the control plane expired at {directory.expires_at.isoformat()}",
                remedy="try again later; operators: look at the control plane",
            )
        return directory

    def endpoint_now(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as the newest snapshot has it; the old one when it is gone.

        Another one of its name is not it: who was admitted to the old one was not admitted to that.
        """
        now = None if self._directory is None else self._directory.endpoints.get(endpoint.name)
        return now if now is not None and now.endpoint_id == endpoint.endpoint_id else endpoint

    def deny(self, refusal: Refusal, request: Request) -> None:
        """Write down that a known key was refused, if that is what it is."""
        self.deny_early(refusal, request.grant, request.directory, request.request_id, request.source)

    def deny_early(
        self, refusal: Refusal, grant: Grant | None, directory: Directory, request_id: bytes, source: str
    ) -> None:
        """Do so before all of the request is known."""
        self.metrics.refused(refusal.code)
        at_us = to_us(self.clock.now())
        self.denials.note(refusal, grant, directory, request_id=request_id, source=source, at_us=at_us, now_s=self.tick)

    @property
    def snapshot_version(self) -> int:
        """Return the version that is served by, 0 before the first."""
        return self._directory.version if self._directory is not None else 0

    def names(self) -> tuple[Container[str], Container[str]]:
        """Return the endpoints and the projects that the snapshot knows."""
        if self._directory is None:
            return (), ()
        return self._directory.endpoints, {grant.project for grant in self._directory.grants.values()}

    def running(self) -> dict[str, int]:
        """Return how many requests of this worker are at the replicas of each endpoint."""
        endpoints = self._directory.endpoints.values() if self._directory is not None else ()
        return {endpoint.name: sum(replica.shared.running for replica in endpoint.replicas) for endpoint in endpoints}

    def wall_s(self) -> float:
        return self.clock.now().timestamp()

    def request_id(self) -> bytes:
        return b"req_%b%08x" % (self._request_prefix, next(self._requests))

    def adopt(self, snapshot: Snapshot) -> None:
        """Serve by this snapshot from now on. Replicas keep their links; one that is gone is cut off at once."""
        before, after = self._replicas, self._live_replicas(snapshot)
        self._directory = read_directory(snapshot, {r.spec.replica_id: r for r in after.values()})
        self._replicas = after
        for spec in _listed(snapshot):
            after[_identity(spec)].follow(spec)
        for identity, replica in before.items():
            if identity not in after:
                replica.cut()
                self.neighbours.part(replica.standing)

    def sweep(self) -> None:
        """Act on every time limit that has passed."""
        self.tick = now = asyncio.get_running_loop().time()
        for connection in tuple(self.connections):
            if connection.deadline <= now:
                connection.on_deadline()
        self.denials.settle(before_s=now - EVERY_S)
        self.budgets.sweep(now)
        self.queues.sweep(now)
        self.suspects.sweep()
        for replica in self._replicas.values():
            replica.tick = now
            replica.close_idle(before=now - self.limits.link_idle_s)

    def _live_replicas(self, snapshot: Snapshot) -> dict[Identity, Replica]:
        return {
            _identity(spec): self._replicas.get(_identity(spec)) or self._new_replica(spec)
            for spec in _listed(snapshot)
        }

    def _new_replica(self, spec: SnapshotReplica) -> Replica:
        replica = Replica(spec, limits=self.limits, context_for=self._context_for)
        self.neighbours.join("\0".join(map(str, _identity(spec))), replica.standing)
        replica.tick = self.tick  # a link that is freed before the next sweep has not been idle since the beginning
        if spec.ready_at is not None:
            ready_for_s = (self.clock.now() - spec.ready_at).total_seconds()
            replica.standing.warm_from = warm_from(self.tick, ready_for_s)
        return replica


def _identity(spec: SnapshotReplica) -> Identity:
    return spec.replica_id, spec.host, spec.port, spec.certificate_pem


def _listed(snapshot: Snapshot) -> list[SnapshotReplica]:
    """Return every replica that may still answer; what is not here is cut."""
    return [*(spec for endpoint in snapshot.endpoints for spec in endpoint.replicas), *snapshot.leaving]
