"""What the gateway needs to serve: signed by the control plane, nothing else is believed."""

from pydantic import AwareDatetime

from controlplane.contracts.strict import Strict


class SnapshotReplica(Strict):
    """One replica. `certificate_pem` is the run's own; the gateway trusts that one alone.

    A draining replica gets no new request and finishes what it has. One that is no longer listed is over: the gateway
    cuts its connections at once, because a copy that was lost may come back and must not answer.
    """

    replica_id: str
    host: str
    port: int
    certificate_pem: str
    draining: bool = False


class SnapshotEndpoint(Strict):
    """An endpoint under the name that clients use as `model`."""

    name: str
    endpoint_id: str
    revision_id: str
    zone: str
    context_tokens: int
    created_at: AwareDatetime
    replicas: tuple[SnapshotReplica, ...]


class SnapshotSecret(Strict):
    """One live secret of a key, by its SHA-256."""

    secret_id: str
    sha256: str
    expires_at: AwareDatetime


class SnapshotKey(Strict):
    """An inference key. No endpoints or zones means all of them, no sources any address.

    `classification` is the highest that a request may carry, 0 to 3; `sources` are networks.
    """

    key_id: str
    project: str
    secrets: tuple[SnapshotSecret, ...]
    endpoints: tuple[str, ...]
    zones: tuple[str, ...]
    purposes: tuple[str, ...]
    classification: int
    sources: tuple[str, ...]


class Snapshot(Strict):
    """What is in force. `policy_sha256` names the policy set.

    `leaving` are replicas of deleted endpoints: they finish what they have and take nothing new.
    """

    site: str
    version: int
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    policy_sha256: str = ""
    keys: tuple[SnapshotKey, ...]
    endpoints: tuple[SnapshotEndpoint, ...]
    leaving: tuple[SnapshotReplica, ...] = ()


class SignedSnapshot(Strict):
    """`payload` is the canonical JSON of a Snapshot; `signature` is Ed25519 over its UTF-8 bytes, base64."""

    payload: str
    signature: str
