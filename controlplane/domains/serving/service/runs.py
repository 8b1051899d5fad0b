"""What runs say of themselves: that they are there, that they live, and in which phase they are."""

from datetime import timedelta
from hmac import compare_digest

from controlplane.contracts.runs import RefusedMachine, RegisterRun, RenewedRun, RenewRun, RunPhase
from controlplane.domains.allocation import service as allocation
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.pki import service as pki
from controlplane.domains.policy import service as policy
from controlplane.domains.serving import rules, store
from controlplane.domains.serving.tables import Replica
from controlplane.domains.serving.types import LIVE, OVER, REGISTERED, ReplicaState
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import Conflict, Denied, Unauthenticated
from controlplane.kit.tx import Tx

BEAT_GAP = timedelta(seconds=3)


async def register_run(tx: Tx, *, ask: RegisterRun, lease_s: float) -> str:
    """Accept a run once, by its nonce, and return its token. Raises Unauthenticated, or Conflict over its GPUs."""
    actor = Actor(ask.replica_id, Role.RUN)
    await policy.require(tx, actor, "replica.register", ask.replica_id)
    await allocation.hold_granting(tx)
    replica = await store.find_replica(tx, ask.replica_id)
    if replica is None or not replica.nonce or not compare_digest(replica.nonce.encode(), ask.nonce.encode()):
        raise Unauthenticated(
            "unknown replica, or its nonce is spent", remedy="the run ends; a new one starts by itself"
        )
    if replica.state != ReplicaState.STARTING:
        raise Conflict(f"the replica is {replica.state}", remedy="the run ends; a new one starts by itself")
    if ask.node in await _revoked(tx):
        raise Denied(
            f"node {ask.node} was revoked", remedy="drain it in the scheduler; redoubt node join-token lets it in again"
        )
    if ask.gpu_uuids:
        ends_at = rules.lease_ends_at(tx.now, replica.time_limit_s, waits=False)
        await allocation.bind_gpus(tx, owner=replica.id, node=ask.node, gpu_uuids=ask.gpu_uuids, expires_at=ends_at)
    token = new_token("rdr")
    _move(replica, ReplicaState.LOADING)
    replica.nonce, replica.reason, replica.run_token_sha256 = "", "", sha256_hex(token.encode())
    replica.engine_ref, replica.node, replica.host, replica.port = ask.job_id, ask.node, ask.host, ask.port
    replica.certificate_pem = ask.certificate_pem
    replica.lease_expires_at = tx.now + timedelta(seconds=lease_s)
    await audit.record(tx, actor, "replica.registered", replica.id, node=ask.node, gpus=list(ask.gpu_uuids))
    return token


async def renew_run(tx: Tx, *, replica_id: str, token: str, ask: RenewRun, lease_s: float) -> RenewedRun:
    """Renew a run's lease and take its phase. A replica that is over is told so and must never serve again."""
    actor = Actor(replica_id, Role.RUN)
    await policy.require(tx, actor, "replica.renew", replica_id)
    if ask.phase is RunPhase.FAILED:
        await allocation.hold_granting(tx)
    replica = await store.find_replica(tx, replica_id)
    if replica is None or not compare_digest(replica.run_token_sha256, sha256_hex(token.encode())):
        raise Unauthenticated("unknown replica or token", remedy="the run ends; a new one starts by itself")
    if replica.state not in REGISTERED:
        return RenewedRun(keep=False, drain=False)
    replica.lease_expires_at = tx.now + timedelta(seconds=lease_s)
    await _take_phase(tx, actor, replica, ask)
    refusals = await pki.list_refusals(tx)
    keep = replica.state not in OVER and replica.node not in rules.put_out(refusals)
    refused = tuple(RefusedMachine(machine=one.node, before=one.before) for one in refusals)
    return RenewedRun(keep=keep, drain=replica.state == ReplicaState.DRAINING, refused=refused)


async def beat(tx: Tx, name: str) -> None:
    """Say that this process lives."""
    await store.mark_beat(tx, name, BEAT_GAP)


async def _take_phase(tx: Tx, actor: Actor, replica: Replica, ask: RenewRun) -> None:
    match ask.phase:
        case RunPhase.READY if replica.state == ReplicaState.LOADING:
            _move(replica, ReplicaState.READY)
            replica.ready_at = tx.now
            await audit.record(tx, actor, "replica.ready", replica.id, node=replica.node)
        case RunPhase.DRAINING if replica.state in LIVE:
            _move(replica, ReplicaState.DRAINING)
            replica.draining_at = tx.now
            await audit.record(tx, actor, "replica.draining", replica.id, node=replica.node)
        case RunPhase.FAILED:
            _move(replica, ReplicaState.FAILED)
            replica.ended_at, replica.reason = tx.now, ask.detail[:2000]
            await allocation.end_lease(tx, SYSTEM, owner=replica.id, reason=replica.reason[:200])
            await audit.record(tx, actor, "replica.failed", replica.id, node=replica.node, reason=replica.reason)
        case _:
            pass


def _move(replica: Replica, state: ReplicaState) -> None:
    replica.state = state
    replica.stamp += 1


async def _revoked(tx: Tx) -> frozenset[str]:
    return rules.put_out(await pki.list_refusals(tx))
