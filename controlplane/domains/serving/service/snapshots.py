"""What gateways may serve: read from the books and signed."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import (
    Snapshot,
    SnapshotBudget,
    SnapshotEndpoint,
    SnapshotKey,
    SnapshotReplica,
    SnapshotSecret,
    SnapshotShare,
)
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.budgets import service as budgets
from controlplane.domains.fleet import service as fleet
from controlplane.domains.fleet.types import Zone
from controlplane.domains.keys import service as inference_keys
from controlplane.domains.pki import service as pki
from controlplane.domains.policy import service as policy
from controlplane.domains.serving import rules, store
from controlplane.domains.serving.tables import Endpoint, PublishedSnapshot, Replica, Revision
from controlplane.domains.serving.types import ReplicaState
from controlplane.domains.shares import service as shares
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.crypto import derived_secret, public_pem, sign
from controlplane.kit.tx import Tx

SNAPSHOTS_KEPT = 1000
_SALTS = b"redoubt cache salts"


async def newest_snapshot(tx: Tx, actor: Actor, *, after: int) -> PublishedSnapshot | None:
    """Return the newest snapshot unless it is version `after`; after a restored database it may be an older one."""
    await policy.require(tx, actor, "snapshot.read", "site")
    newest = await store.find_newest_snapshot(tx)
    return newest if newest is not None and newest.version != after else None


async def newest_version(tx: Tx) -> int:
    """Return the newest version, 0 before the first. For who watches it."""
    return await store.find_newest_version(tx)


async def publish_snapshot(tx: Tx, actor: Actor, *, site: str, key: Ed25519PrivateKey, lifetime: timedelta) -> bool:
    """Sign what gateways may serve, when it changed or half of the last one's life is over; say whether it was."""
    await policy.require(tx, actor, "snapshot.publish", site)
    await store.lock_publishing(tx)
    keys, endpoints = await _snapshot_keys(tx), await _snapshot_endpoints(tx)
    leaving, bounds = await _leaving_replicas(tx, endpoints), await _snapshot_budgets(tx)
    parts = await _snapshot_shares(tx, keys, derived_secret(key, _SALTS))
    shapes = [shape.model_dump(mode="json") for shape in (*keys, *endpoints, *leaving, *bounds, *parts)]
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
        policies=await policy.policies_in_force(tx),
        keys=keys,
        endpoints=endpoints,
        leaving=leaving,
        shares=parts,
        budgets=bounds,
    )
    payload = canonical_json(snapshot.model_dump(mode="json", exclude_defaults=True))  # older gateways read on
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
    places = rules.Places(await fleet.list_zones(tx), is_declared=bool(await fleet.declared_since(tx)))
    serving = await _list_trusted(tx)
    return tuple(
        _snapshot_endpoint(
            endpoint,
            revisions[endpoint.revision_id],
            places.find(endpoint.zone),
            tuple(_snapshot_replica(r) for r in serving if r.endpoint_id == endpoint.id),
        )
        for endpoint in endpoints
    )


def _snapshot_endpoint(
    endpoint: Endpoint, revision: Revision, zone: Zone, replicas: tuple[SnapshotReplica, ...]
) -> SnapshotEndpoint:
    return SnapshotEndpoint(
        name=endpoint.name,
        endpoint_id=endpoint.id,
        revision_id=revision.id,
        zone=endpoint.zone,
        context_tokens=revision.context_tokens,
        created_at=endpoint.created_at,
        replicas=replicas,
        project=endpoint.project,
        model=revision.model,
        adapter=revision.adapter,
        surfaces=rules.SURFACES[revision.adapter],
        parallel=revision.parallel,
        gpus=revision.gpus,
        exclusive=endpoint.exclusive,
        jurisdiction=zone.jurisdiction,
        clearance=zone.clearance,
    )


async def _snapshot_budgets(tx: Tx) -> tuple[SnapshotBudget, ...]:
    return tuple(
        SnapshotBudget(
            budget_id=budget.budget_id,
            scope=budget.terms.scope,
            share=budget.terms.share,
            name=budget.terms.name,
            unit=budget.terms.unit,
            exception=budget.terms.exception,
            ends_at=budget.ends_at,
        )
        for budget in await budgets.list_live(tx)
    )


async def _snapshot_shares(tx: Tx, keys: Sequence[SnapshotKey], secret: bytes) -> tuple[SnapshotShare, ...]:
    """Return what keys belong to; a project that has no share yet stands for itself."""
    known = {share.name: share for share in await shares.list_all_shares(tx)}
    return tuple(
        rules.to_snapshot_share(name, known.get(name), secret) for name in sorted({key.project for key in keys})
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
    return rules.put_out(await pki.list_refusals(tx))


def _snapshot_replica(replica: Replica) -> SnapshotReplica:
    return SnapshotReplica(
        replica_id=replica.id,
        host=replica.host,
        port=replica.port,
        certificate_pem=replica.certificate_pem,
        draining=replica.state == ReplicaState.DRAINING,
        revision_id=replica.revision_id,
        ready_at=replica.ready_at,
    )
