"""Models, endpoints and their replicas, as operators and runners see them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from hmac import compare_digest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.admin import EndpointConfig, ModelManifest
from controlplane.contracts.runs import RefusedMachine, RegisterRun, RenewedRun, RenewRun, RunPhase
from controlplane.contracts.snapshot import (
    Snapshot,
    SnapshotEndpoint,
    SnapshotKey,
    SnapshotReplica,
    SnapshotSecret,
)
from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.types import Ask
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.fleet import service as fleet
from controlplane.domains.keys import service as inference_keys
from controlplane.domains.pki import service as pki
from controlplane.domains.pki.types import Refusal
from controlplane.domains.policy import service as policy
from controlplane.domains.serving import rules, store
from controlplane.domains.serving.tables import Endpoint, Model, PublishedSnapshot, Replica, Revision
from controlplane.domains.serving.types import LIVE, OVER, REGISTERED, ReplicaState
from controlplane.domains.shares.types import BUILT_IN_PROJECT, Pool
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.crypto import new_token, public_pem, sign
from controlplane.kit.errors import BadInput, Conflict, Denied, NotFound, Unauthenticated
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

RECENT = timedelta(hours=1)
BEAT_GAP = timedelta(seconds=3)
SNAPSHOTS_KEPT = 1000


@dataclass(frozen=True)
class EndpointView:
    """An endpoint with its current revision and the replicas of the last hour."""

    endpoint: Endpoint
    revision: Revision
    replicas: tuple[Replica, ...]


async def register_model(tx: Tx, actor: Actor, *, manifest: ModelManifest) -> Model:
    """Make weights of the bundle known. The same manifest again changes nothing; other weights need another name."""
    await policy.require(tx, actor, "model.register", manifest.name)
    known = await store.find_model(tx, manifest.name)
    if known is not None:
        if known.sha256 == manifest.sha256:
            return known
        raise Conflict(f"model {manifest.name} has other weights", remedy="register the new weights under a new name")
    # Where weights come from and what they may be used with is said in the record; further files are the bundle's.
    model = Model(**manifest.model_dump(exclude={"origin", "residency", "files"}), registered_at=tx.now)
    store.add(tx, model)
    facts = {"origin": manifest.origin, "residency": manifest.residency}
    await audit.record(tx, actor, "model.registered", manifest.name, sha256=manifest.sha256, **facts)
    return model


async def list_models(tx: Tx, actor: Actor, *, page: Page) -> Sequence[Model]:
    await policy.require(tx, actor, "model.read", "site")
    return await store.list_models(tx, page)


async def create_endpoint(
    tx: Tx, actor: Actor, *, name: str, zone: str, replicas: int, config: EndpointConfig,
    project: str = BUILT_IN_PROJECT, floor: int | None = None,
) -> EndpointView:  # fmt: skip
    """Make an endpoint and its first revision. Raises NotFound for model and project, Refused when it can never fit.

    `floor` replicas are never preempted, None is all of them.
    """
    await policy.require(tx, actor, "endpoint.create", name)
    if await store.find_endpoint(tx, name) is not None:
        raise Conflict(f"endpoint {name} exists", remedy=f"redoubt endpoint revise {name} …, or choose another name")
    zones = {node.zone for node in await fleet.view_fleet(tx)} - {""}
    if zones and zone not in zones:
        raise BadInput(f"the site has no zone {zone}", remedy=f"choose one of {', '.join(sorted(zones))}")
    if (await allocation.get_project(tx, project)).archived:
        raise Conflict(f"{project} is archived: nothing new runs there", remedy="redoubt project list")
    endpoint = Endpoint(
        id=new_id("endpoint"), name=name, zone=zone, project=project, replicas=replicas, floor=floor, revision_id="",
        created_at=tx.now,
    )  # fmt: skip
    revision = await _make_revision(tx, endpoint, number=1, config=config)
    endpoint.revision_id = revision.id
    store.add(tx, endpoint)
    await tx.session.flush()
    store.add(tx, revision)
    facts = {"name": name, "project": project, "revision": revision.id, "replicas": replicas, "floor": floor}
    await audit.record(tx, actor, "endpoint.created", endpoint.id, **facts)
    return EndpointView(endpoint, revision, ())


async def revise_endpoint(
    tx: Tx, actor: Actor, *, name: str, replicas: int | None, config: EndpointConfig | None, floor: int | None = None
) -> EndpointView:
    """Change how many replicas there are or are never preempted, or roll out a new revision.

    What serves goes on until the new one is ready.
    """
    endpoint = await _find(tx, name)
    await policy.require(tx, actor, "endpoint.revise", name)
    if replicas is not None:
        endpoint.replicas = replicas
    if floor is not None:
        endpoint.floor = floor
    if config is not None:
        number = await store.next_revision_number(tx, endpoint.id)
        revision = await _make_revision(tx, endpoint, number=number, config=config)
        store.add(tx, revision)
        endpoint.revision_id = revision.id
    await audit.record(
        tx, actor, "endpoint.revised", endpoint.id, revision=endpoint.revision_id, replicas=endpoint.replicas,
        floor=endpoint.floor,
    )  # fmt: skip
    return await _view(tx, endpoint)


async def delete_endpoint(tx: Tx, actor: Actor, *, name: str) -> Endpoint:
    """End an endpoint; its replicas finish what runs."""
    endpoint = await _find(tx, name)
    await policy.require(tx, actor, "endpoint.delete", name)
    endpoint.deleted_at = tx.now
    endpoint.replicas = 0
    await audit.record(tx, actor, "endpoint.deleted", endpoint.id, name=name)
    return endpoint


async def get_endpoint(tx: Tx, actor: Actor, *, name: str) -> EndpointView:
    await policy.require(tx, actor, "endpoint.read", name)
    return await _view(tx, await _find(tx, name))


async def list_endpoints(tx: Tx, actor: Actor, *, page: Page) -> list[EndpointView]:
    await policy.require(tx, actor, "endpoint.read", "site")
    return [await _view(tx, endpoint) for endpoint in await store.list_endpoints(tx, page)]


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
    keep = replica.state not in OVER and replica.node not in _put_out(refusals)
    refused = tuple(RefusedMachine(machine=one.node, before=one.before) for one in refusals)
    return RenewedRun(keep=keep, drain=replica.state == ReplicaState.DRAINING, refused=refused)


async def newest_snapshot(tx: Tx, actor: Actor, *, after: int) -> PublishedSnapshot | None:
    """Return the newest snapshot unless it is version `after`; after a restored database it may be an older one."""
    await policy.require(tx, actor, "snapshot.read", "site")
    newest = await store.find_newest_snapshot(tx)
    return newest if newest is not None and newest.version != after else None


async def publish_snapshot(tx: Tx, actor: Actor, *, site: str, key: Ed25519PrivateKey, lifetime: timedelta) -> bool:
    """Sign what gateways may serve, when it changed or half of the last one's life is over; say whether it was."""
    await policy.require(tx, actor, "snapshot.publish", site)
    await store.lock_publishing(tx)
    keys, endpoints = await _snapshot_keys(tx), await _snapshot_endpoints(tx)
    leaving = await _leaving_replicas(tx, endpoints)
    shapes = [shape.model_dump(mode="json") for shape in (*keys, *endpoints, *leaving)]
    in_force = str(tx.session.info.get("policy_digest", ""))  # left there by the question above
    content = canonical_json([site, public_pem(key).decode(), int(lifetime.total_seconds()), in_force, shapes])
    last = await store.find_newest_snapshot(tx)
    if last is not None and last.content_sha256 == sha256_hex(content) and tx.now < last.expires_at - lifetime / 2:
        return False
    snapshot = Snapshot(
        site=site,
        version=last.version + 1 if last else 1,
        issued_at=tx.now,
        expires_at=tx.now + lifetime,
        policy_sha256=in_force,
        keys=keys,
        endpoints=endpoints,
        leaving=leaving,
    )
    payload = canonical_json(snapshot.model_dump(mode="json"))
    row = PublishedSnapshot(
        version=snapshot.version,
        content_sha256=sha256_hex(content),
        payload=payload.decode(),
        signature=sign(key, payload),
        issued_at=snapshot.issued_at,
        expires_at=snapshot.expires_at,
    )
    store.add(tx, row)
    await store.delete_snapshots_before(tx, snapshot.version - SNAPSHOTS_KEPT)
    await audit.record(tx, actor, "snapshot.published", f"snapshot {snapshot.version}", sha256=sha256_hex(payload))
    return True


async def beat(tx: Tx, name: str) -> None:
    """Say that this process lives."""
    await store.mark_beat(tx, name, BEAT_GAP)


async def _snapshot_keys(tx: Tx) -> tuple[SnapshotKey, ...]:
    return tuple(
        SnapshotKey(
            key_id=key.key_id,
            secrets=tuple(SnapshotSecret(**asdict(s)) for s in key.secrets),
            **asdict(key.bounds),
        )
        for key in await inference_keys.list_live_keys(tx)
    )


async def _snapshot_endpoints(tx: Tx) -> tuple[SnapshotEndpoint, ...]:
    endpoints = await store.list_live_endpoints(tx)
    revisions = await store.get_revisions(tx, {endpoint.revision_id for endpoint in endpoints})
    serving = await _list_trusted(tx)
    return tuple(
        SnapshotEndpoint(
            name=endpoint.name,
            endpoint_id=endpoint.id,
            revision_id=endpoint.revision_id,
            zone=endpoint.zone,
            context_tokens=revisions[endpoint.revision_id].context_tokens,
            created_at=endpoint.created_at,
            replicas=tuple(_snapshot_replica(r) for r in serving if r.endpoint_id == endpoint.id),
        )
        for endpoint in endpoints
    )


async def _leaving_replicas(tx: Tx, endpoints: tuple[SnapshotEndpoint, ...]) -> tuple[SnapshotReplica, ...]:
    """Return replicas of deleted endpoints that still finish what they have."""
    live = {endpoint.endpoint_id for endpoint in endpoints}
    return tuple(_snapshot_replica(r) for r in await _list_trusted(tx) if r.endpoint_id not in live)


async def _list_trusted(tx: Tx) -> list[Replica]:
    """Return what serves on nodes that were not revoked: what such a node answers, nobody may hear."""
    revoked = await _revoked(tx)
    return [replica for replica in await store.list_serving(tx) if replica.node not in revoked]


async def _revoked(tx: Tx) -> frozenset[str]:
    return _put_out(await pki.list_refusals(tx))


def _put_out(refusals: Iterable[Refusal]) -> frozenset[str]:
    return frozenset(refusal.node for refusal in refusals if refusal.before is None)


def _snapshot_replica(replica: Replica) -> SnapshotReplica:
    return SnapshotReplica(
        replica_id=replica.id,
        host=replica.host,
        port=replica.port,
        certificate_pem=replica.certificate_pem,
        draining=replica.state == ReplicaState.DRAINING,
    )


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


async def _find(tx: Tx, name: str) -> Endpoint:
    endpoint = await store.find_endpoint(tx, name)
    if endpoint is None:
        raise NotFound(f"no endpoint {name}", remedy="redoubt endpoint list")
    return endpoint


async def _view(tx: Tx, endpoint: Endpoint) -> EndpointView:
    replicas = await store.list_replicas(tx, endpoint.id, RECENT)
    return EndpointView(endpoint, await store.get_revision(tx, endpoint.revision_id), tuple(replicas))


async def _make_revision(tx: Tx, endpoint: Endpoint, *, number: int, config: EndpointConfig) -> Revision:
    model = await store.find_model(tx, config.model)
    if model is None:
        raise NotFound(f"unknown model {config.model}", remedy="redoubt model list", code="unknown_model")
    context = config.context_tokens or model.context_tokens
    if context > model.context_tokens:
        raise BadInput(
            f"{config.model} has a context of {model.context_tokens} tokens, {context} asked",
            remedy=f"ask for at most {model.context_tokens}",
        )
    memory = 0
    if config.gpus:
        memory = rules.memory_per_gpu_bytes(
            model.weights_bytes, model.kv_bytes_per_token, context, config.parallel, config.gpus
        )
        ask = Ask(config.gpus, config.gpu_type, memory, endpoint.zone)
        await allocation.require_possible(tx, share=endpoint.project, pool=Pool.INFERENCE, ask=ask)
    return Revision(
        id=new_id("revision"),
        endpoint_id=endpoint.id,
        number=number,
        model=config.model,
        adapter=config.adapter,
        gpus=config.gpus,
        gpu_type=config.gpu_type,
        gpu_memory_bytes=memory,
        context_tokens=context,
        parallel=config.parallel,
        created_at=tx.now,
    )
