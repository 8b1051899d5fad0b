"""Rows to contracts."""

from collections.abc import Mapping
from typing import Any  # the fields of a contract, by name

from controlplane.contracts import admin
from controlplane.domains.allocation.tables import Lease
from controlplane.domains.audit.tables import AuditEvent
from controlplane.domains.fleet.types import GpuCordon, GpuView, NodeView, SeenGpu
from controlplane.domains.serving.service.endpoints import EndpointView
from controlplane.domains.serving.tables import Model, Replica, Revision
from controlplane.domains.serving.types import ReplicaState

Owners = Mapping[str, str]  # who holds a GPU of a live lease, by its UUID


def to_gpu(gpu: SeenGpu, cordon: GpuCordon | None, owners: Owners) -> admin.Gpu:
    return admin.Gpu(**_facts(gpu, cordon, owners))


def to_gpu_detail(view: GpuView, owners: Owners) -> admin.GpuDetail:
    facts = _facts(view.gpu, view.cordon, owners)
    return admin.GpuDetail(**facts, reading=dict(view.reading), seen_at=view.seen_at)


def _facts(gpu: SeenGpu, cordon: GpuCordon | None, owners: Owners) -> dict[str, Any]:  # the fields of admin.Gpu
    return {
        "owner": owners.get(gpu.uuid, ""),
        "uuid": gpu.uuid,
        "node": gpu.node,
        "name": gpu.name,
        "memory_total_bytes": gpu.memory_total_bytes,
        "state": str(gpu.state),
        "type": gpu.type,
        "index": gpu.index,
        "minor": gpu.minor,
        "island": gpu.island,
        "numa": gpu.numa,
        "mig": gpu.mig,
        "vbios": gpu.vbios,
        "cordon": cordon and admin.Cordon(reason=cordon.reason, owner=cordon.owner, at=cordon.at),
    }


def to_node(view: NodeView, owners: Owners) -> admin.Node:
    return admin.Node(
        name=view.name,
        zone=view.zone,
        address=view.address,
        state=view.state,
        reasons=view.reasons,
        last_report_at=view.last_report_at,
        gpus=tuple(to_gpu(gpu, view.cordons.get(gpu.uuid), owners) for gpu in view.gpus),
        differences=view.differences,
        driver=view.driver,
    )


def to_lease(row: Lease) -> admin.Lease:
    return admin.Lease(
        id=row.id,
        owner=row.owner,
        count=row.count,
        gpu_type=row.gpu_type,
        node=row.node,
        granted_at=row.granted_at,
        ended_at=row.ended_at,
        share=row.share,
        pool=row.pool,
        over_quota=row.over_quota,
        preemptible=row.preemptible,
        expires_at=row.expires_at,
        end_reason=row.end_reason,
    )


def to_model(row: Model) -> admin.Model:
    return admin.Model(
        name=row.name,
        sha256=row.sha256,
        format=row.format,
        licence=row.licence,
        size_bytes=row.size_bytes,
        context_tokens=row.context_tokens,
        registered_at=row.registered_at,
    )


def to_endpoint(view: EndpointView) -> admin.Endpoint:
    return admin.Endpoint(
        id=view.endpoint.id,
        name=view.endpoint.name,
        zone=view.endpoint.zone,
        project=view.endpoint.project,
        floor=view.endpoint.floor,
        exclusive=view.endpoint.exclusive,
        replicas_wanted=view.endpoint.replicas,
        replicas_ready=sum(replica.state == ReplicaState.READY for replica in view.replicas),
        wait_reason=view.endpoint.wait_reason or "",
        revision=_to_revision(view.revision),
        replicas=tuple(_to_replica(replica) for replica in view.replicas),
        created_at=view.endpoint.created_at,
    )


def to_audit_event(row: AuditEvent) -> admin.AuditEvent:
    return admin.AuditEvent(
        seq=row.seq,
        event_id=row.event_id,
        at=row.at,
        actor=row.actor,
        role=row.role,
        event=row.event,
        resource=row.resource,
        details=row.details,
    )


def _to_revision(row: Revision) -> admin.Revision:
    return admin.Revision(
        id=row.id,
        number=row.number,
        model=row.model,
        adapter=row.adapter,
        gpus=row.gpus,
        gpu_type=row.gpu_type,
        gpu_memory_bytes=row.gpu_memory_bytes,
        context_tokens=row.context_tokens,
        parallel=row.parallel,
    )


def _to_replica(row: Replica) -> admin.Replica:
    return admin.Replica(
        id=row.id,
        revision_id=row.revision_id,
        state=row.state,
        node=row.node,
        reason=row.reason or "",
        created_at=row.created_at,
        ready_at=row.ready_at,
        ended_at=row.ended_at,
    )
