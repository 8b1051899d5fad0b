"""Where the replicas are, in the format of llm-d's file discovery: a site can put Envoy and its router in front.

The file follows every snapshot. Replicas still ask for a certificate of the site: whoever stands there needs one.
https://github.com/llm-d/llm-d-router/blob/main/docs/discovery.md
"""

import os
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import structlog

from controlplane.contracts.snapshot import Snapshot, SnapshotEndpoint, SnapshotReplica

log = structlog.get_logger()

_MOST_BYTES = 1024 * 1024  # llm-d reads no more


class _Entry(msgspec.Struct):
    name: str
    namespace: str
    address: str
    port: str
    labels: dict[str, str]


class _File(msgspec.Struct):
    endpoints: list[_Entry]


def discovery_of(snapshot: Snapshot) -> bytes:
    """Return the file's content: every replica that takes requests and has an IPv4 address."""
    entries = [
        _entry(snapshot.site, endpoint, replica)
        for endpoint in snapshot.endpoints
        for replica in endpoint.replicas
        if not replica.draining and _is_ipv4(replica.host)
    ]
    return msgspec.json.encode(_File(entries))


def write_discovery(file: Path, snapshot: Snapshot) -> None:
    """Replace the file whole. What cannot be written is told, and nothing else stops over it."""
    content = discovery_of(snapshot)
    if len(content) > _MOST_BYTES:
        log.warning("discovery.too_large", file=str(file), bytes=len(content))
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}")  # every worker writes it
    try:
        fresh.write_bytes(content)
        fresh.replace(file)
    except OSError as error:
        log.warning("discovery.not_written", file=str(file), error=str(error))


def _entry(site: str, endpoint: SnapshotEndpoint, replica: SnapshotReplica) -> _Entry:
    labels = {
        "endpoint": endpoint.name,
        "model": endpoint.model,
        "engine": endpoint.adapter,
        "revision": replica.revision_id or endpoint.revision_id,
        "zone": endpoint.zone,
    }
    return _Entry(replica.replica_id, site, replica.host, str(replica.port), labels)


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True
