"""What one snapshot allows: keys by digest, endpoints by name. Swapped as one object, never changed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import count
from urllib.parse import quote

import msgspec

from controlplane.contracts.snapshot import Snapshot, SnapshotEndpoint, SnapshotKey
from controlplane.gateway.errors import ModelNotFound, WrongKey
from controlplane.gateway.replica import Replica

_HEADER_SAFE = "!#$&'()*+,/:;=?@[]-._~ "


@dataclass(frozen=True, slots=True)
class Grant:
    """What one inference key may use; `endpoints` None means every endpoint."""

    key_id: str
    expires_at: datetime | None
    endpoints: frozenset[str] | None

    def covers(self, endpoint: str) -> bool:
        return self.endpoints is None or endpoint in self.endpoints


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`headers` tell a client what served it; `turns` spreads requests over equally busy replicas."""

    name: str
    created_at: datetime
    headers: bytes
    replicas: tuple[Replica, ...]
    turns: Iterator[int] = field(default_factory=count)


@dataclass(frozen=True, slots=True)
class Directory:
    version: int
    expires_at: datetime
    grants: dict[bytes, Grant]
    endpoints: dict[str, Endpoint]
    _admitted: dict[bytes, Grant] = field(default_factory=dict)  # known keys in one spelling: it has an end

    def admit(self, authorization: bytes, now: datetime) -> Grant:
        """Return what the bearer may use. Raises WrongKey."""
        grant = self._admitted.get(authorization) or self._look_up(authorization)
        if grant.expires_at is not None and now >= grant.expires_at:
            raise WrongKey("the API key has expired", remedy="ask an operator for a new key", code="expired_api_key")
        return grant

    def _look_up(self, authorization: bytes) -> Grant:
        if authorization[:7].lower() != b"bearer ":
            raise WrongKey("no API key came with the request", remedy="send the header Authorization: Bearer rdk_...")
        secret = authorization[7:].strip()
        grant = self.grants.get(sha256(secret).digest())
        if grant is None:
            raise WrongKey("the API key is not known here", remedy="ask an operator for a key of this site")
        if authorization == b"Bearer " + secret:
            self._admitted[authorization] = grant
        return grant

    def find(self, grant: Grant, name: str) -> Endpoint:
        """Return the endpoint. Raises ModelNotFound, in the same words for one that the key may not use."""
        endpoint = self.endpoints.get(name)
        if endpoint is None or not grant.covers(name):
            detail = f"the model {name[:100]!r} does not exist or this key may not use it"
            raise ModelNotFound(detail, remedy="list the models of this key with GET /v1/models", param="model")
        return endpoint

    def listing(self, grant: Grant) -> bytes:
        """Return the body of GET /v1/models."""
        visible = [
            _Model(e.name, int(e.created_at.timestamp())) for e in self.endpoints.values() if grant.covers(e.name)
        ]
        return msgspec.json.encode(_Models(visible))


class _Model(msgspec.Struct):
    id: str
    created: int
    object: str = "model"
    owned_by: str = "redoubt"


class _Models(msgspec.Struct):
    data: list[_Model]
    object: str = "list"


def read_directory(snapshot: Snapshot, replicas: dict[str, Replica]) -> Directory:
    """Arrange a verified snapshot for look-ups; `replicas` holds the live one of every replica in it."""
    return Directory(
        version=snapshot.version,
        expires_at=snapshot.expires_at,
        grants={bytes.fromhex(key.sha256): _grant(key) for key in snapshot.keys},
        endpoints={endpoint.name: _endpoint(endpoint, replicas) for endpoint in snapshot.endpoints},
    )


def _grant(key: SnapshotKey) -> Grant:
    return Grant(key.key_id, key.expires_at, frozenset(key.endpoints) or None)


def _endpoint(endpoint: SnapshotEndpoint, replicas: dict[str, Replica]) -> Endpoint:
    headers = (
        f"x-redoubt-endpoint: {quote(endpoint.name, _HEADER_SAFE)}\r\n"
        f"x-redoubt-revision: {quote(endpoint.revision_id, _HEADER_SAFE)}\r\n"
        f"x-redoubt-zone: {quote(endpoint.zone, _HEADER_SAFE)}\r\n"
    )
    open_ones = tuple(replicas[r.replica_id] for r in endpoint.replicas if not r.draining)
    return Endpoint(endpoint.name, endpoint.created_at, headers.encode(), open_ones)
