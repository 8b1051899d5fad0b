"""What one snapshot allows: keys by digest, endpoints by name. Swapped as one object, never changed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import get_args
from urllib.parse import quote

import msgspec

from controlplane.contracts.levels import LEVELS
from controlplane.contracts.snapshot import (
    Priority,
    Snapshot,
    SnapshotBudget,
    SnapshotEndpoint,
    SnapshotKey,
    SnapshotShare,
    Surface,
)
from controlplane.gateway.errors import KeyNotForThis, ModelNotFound, WrongKey
from controlplane.gateway.head import Head
from controlplane.gateway.records import Outcome
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import Work

PRIORITIES: tuple[Priority, ...] = get_args(Priority)
_MOST_ADDRESSES = 1024
_HEADER_SAFE = "!#$&'()*+,/:;=?@[]-._~ "


@dataclass(frozen=True, slots=True)
class Terms:
    """What one request says it is for; `classification` is a level, 0 to 3."""

    purpose: str
    classification: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What one secret of an inference key may use; `endpoints` or `zones` None means all, `sources` None any address.

    Its data may be in `jurisdictions`, none means wherever the rest lets it. None of it is served before `priority`.
    """

    key_id: str
    secret_id: str
    project: str
    expires_at: datetime
    endpoints: frozenset[str] | None
    zones: frozenset[str] | None
    purposes: tuple[str, ...]
    classification: int
    sources: "Networks | None"
    jurisdictions: frozenset[str] = frozenset()
    priority: Priority = "interactive"
    lines: dict[tuple[str, str, str], Outcome] = field(default_factory=dict, compare=False)  # of the meter
    _terms: dict[tuple[bytes, bytes], Terms] = field(default_factory=dict, compare=False)

    def covers(self, endpoint: "Endpoint") -> bool:
        named = self.endpoints is None or endpoint.name in self.endpoints
        return named and (self.zones is None or endpoint.zone in self.zones)

    def lets_in(self, source: str) -> bool:
        """Say whether the key may come from this address. An address that cannot be read may not."""
        return self.sources is None or self.sources.hold(source)

    def bounded(self, work: Work) -> Work:
        """Return the work in the class that the key lets it have."""
        if PRIORITIES.index(work.priority) >= PRIORITIES.index(self.priority):
            return work
        return msgspec.structs.replace(work, priority=self.priority)

    def terms(self, head: Head) -> Terms:
        """Return what the request is for, by its headers or by what the key says alone. Raises KeyNotForThis."""
        asked = (head.purpose, head.classification)
        terms = self._terms.get(asked)
        if terms is None:
            terms = self._terms[asked] = Terms(self._purpose(head.purpose), self._level(head.classification))
        return terms

    def _purpose(self, asked: bytes) -> str:
        if not asked and len(self.purposes) == 1:
            return self.purposes[0]
        allowed = ", ".join(self.purposes)
        if not asked:
            detail = "the key serves several purposes and the request names none"
            raise KeyNotForThis(detail, remedy=f"send X-Redoubt-Purpose: one of {allowed}", code="purpose_missing")
        purpose = next((purpose for purpose in self.purposes if purpose.encode() == asked), None)
        if purpose is None:
            detail = "the key may not be used for this purpose"
            raise KeyNotForThis(detail, remedy=f"send X-Redoubt-Purpose: one of {allowed}", code="purpose_not_allowed")
        return purpose

    def _level(self, asked: bytes) -> int:
        """A request that says nothing counts as the most that its key may carry."""
        if not asked:
            return self.classification
        level = next((level for level, word in enumerate(LEVELS) if word.encode() == asked), None)
        if level is None or level > self.classification:
            detail = f"the key may carry data up to {LEVELS[self.classification]}"
            remedy = f"send X-Redoubt-Classification: one of {', '.join(LEVELS[: self.classification + 1])}"
            raise KeyNotForThis(detail, remedy=remedy, code="classification_not_allowed")
        return level


class Networks:
    """Networks that keys may be used from. Keys with the same ones share this, and each address is looked at once."""

    __slots__ = ("_known", "_networks")

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = tuple(ip_network(network) for network in networks)
        self._known: dict[str, bool] = {}

    def hold(self, source: str) -> bool:
        known = self._known.get(source)
        return self._look(source) if known is None else known

    def _look(self, source: str) -> bool:
        if len(self._known) >= _MOST_ADDRESSES:
            self._known.clear()
        address = _address(source)
        held = self._known[source] = address is not None and any(address in network for network in self._networks)
        return held


def _address(source: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`headers` tell a client what served it, `listed` is its entry among the models."""

    name: str
    endpoint_id: str
    revision_id: str
    zone: str
    created_at: datetime
    headers: bytes
    replicas: tuple[Replica, ...]
    context_tokens: int
    project: str
    model: str
    adapter: str
    surfaces: frozenset[Surface]
    parallel: int
    gpus: int
    exclusive: bool
    jurisdiction: str
    clearance: int
    listed: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    version: int
    expires_at: datetime
    policy_sha256: str
    policies: str | None
    grants: dict[bytes, Grant]
    endpoints: dict[str, Endpoint]
    shares: dict[str, SnapshotShare]
    budgets: tuple[SnapshotBudget, ...]
    _admitted: dict[bytes, Grant] = field(default_factory=dict)  # known keys in one spelling: it has an end

    def admit(self, authorization: bytes, source: str, now: datetime) -> Grant:
        """Return what the bearer may use from that address. Raises WrongKey or KeyNotForThis."""
        grant = self._admitted.get(authorization) or self._look_up(authorization)
        if now >= grant.expires_at:
            raise WrongKey("the API key has expired", remedy="ask an operator for a new key", code="expired_api_key")
        if not grant.lets_in(source):
            detail = "the key may not be used from this address"
            raise KeyNotForThis(detail, remedy="call from one of the key's networks", code="address_not_allowed")
        return grant

    def owner(self, authorization: bytes) -> Grant | None:
        """Return whose key this is, whether it may be used or not; None for one that is not known."""
        return self.grants.get(sha256(authorization[7:].strip()).digest())

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
        if endpoint is None or not self.opens(grant, endpoint):
            detail = f"the model {name[:100]!r} does not exist or this key may not use it"
            raise ModelNotFound(detail, remedy="list the models of this key with GET /v1/models", param="model")
        return endpoint

    def opens(self, grant: Grant, endpoint: Endpoint) -> bool:
        """Say whether the key may use the endpoint. An exclusive one is for its own project's keys alone."""
        if endpoint.exclusive and self._project_of(grant.project) != self._project_of(endpoint.project):
            return False
        return grant.covers(endpoint)

    def _project_of(self, name: str) -> str:
        share = self.shares.get(name)
        return (share.project if share is not None else "") or name

    def listing(self, grant: Grant) -> bytes:
        """Return the body of GET /v1/models."""
        visible = [msgspec.Raw(e.listed) for e in self.endpoints.values() if self.opens(grant, e)]
        return msgspec.json.encode(_Models(visible))


class _Model(msgspec.Struct, tag_field="type", tag="model"):
    """What clients of OpenAI and of Anthropic read of a model, and what vLLM tells beyond it."""

    id: str
    display_name: str
    created: int
    created_at: datetime
    max_model_len: int
    surfaces: tuple[Surface, ...]
    object: str = "model"
    owned_by: str = "redoubt"


class _Models(msgspec.Struct):
    data: list[msgspec.Raw]
    object: str = "list"
    has_more: bool = False


def _listed(endpoint: SnapshotEndpoint) -> bytes:
    return msgspec.json.encode(
        _Model(
            endpoint.name,
            endpoint.name,
            int(endpoint.created_at.timestamp()),
            endpoint.created_at,
            endpoint.context_tokens,
            endpoint.surfaces,
        )
    )


def read_directory(snapshot: Snapshot, replicas: dict[str, Replica]) -> Directory:
    """Arrange a verified snapshot for look-ups; `replicas` holds the live one of every replica in it."""
    return Directory(
        version=snapshot.version,
        expires_at=snapshot.expires_at,
        policy_sha256=snapshot.policy_sha256,
        policies=snapshot.policies,
        grants={digest: grant for key in snapshot.keys for digest, grant in _grants(key)},
        endpoints={endpoint.name: _endpoint(endpoint, replicas) for endpoint in snapshot.endpoints},
        shares={share.name: share for share in snapshot.shares},
        budgets=snapshot.budgets,
    )


def _grants(key: SnapshotKey) -> Iterator[tuple[bytes, Grant]]:
    for secret in key.secrets:
        yield (
            bytes.fromhex(secret.sha256),
            Grant(
                key.key_id,
                secret.secret_id,
                key.project,
                secret.expires_at,
                _names(key.endpoints) or None,
                _names(key.zones) or None,
                _same(key.purposes),
                key.classification,
                _networks(key.sources),
                _names(key.jurisdictions),
                key.priority,
            ),
        )


@lru_cache(maxsize=1024)  # ten thousand keys have few different bounds: one object for each, not one for each key
def _names(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


@lru_cache(maxsize=1024)
def _same(names: tuple[str, ...]) -> tuple[str, ...]:
    return names


@lru_cache(maxsize=1024)
def _networks(networks: tuple[str, ...]) -> Networks | None:
    return Networks(networks) if networks else None


def _endpoint(endpoint: SnapshotEndpoint, replicas: dict[str, Replica]) -> Endpoint:
    headers = (
        f"x-redoubt-endpoint: {quote(endpoint.name, _HEADER_SAFE)}\r\n"
        f"x-redoubt-revision: {quote(endpoint.revision_id, _HEADER_SAFE)}\r\n"
        f"x-redoubt-zone: {quote(endpoint.zone, _HEADER_SAFE)}\r\n"
    )
    open_ones = tuple(replicas[r.replica_id] for r in endpoint.replicas if not r.draining)
    return Endpoint(
        endpoint.name,
        endpoint.endpoint_id,
        endpoint.revision_id,
        endpoint.zone,
        endpoint.created_at,
        headers.encode(),
        open_ones,
        endpoint.context_tokens,
        endpoint.project,
        endpoint.model,
        endpoint.adapter,
        frozenset(endpoint.surfaces),
        endpoint.parallel,
        endpoint.gpus,
        endpoint.exclusive,
        endpoint.jurisdiction,
        endpoint.clearance,
        _listed(endpoint),
    )
