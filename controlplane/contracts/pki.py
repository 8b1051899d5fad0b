"""How machines come in, renew their leaves, and are put out."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Answer, Strict

RequestPem = Annotated[str, Field(max_length=8192, pattern=r"^-----BEGIN CERTIFICATE REQUEST-----\n")]
Reason = Annotated[str, Field(min_length=3, max_length=400, pattern=r"^[^\x00-\x1f\x7f]+$")]


class NewJoinToken(Answer):
    """`token` is shown this once."""

    id: str
    token: str
    node: str
    zone: str
    address: str
    expires_at: AwareDatetime


class AskJoin(Strict):
    """A request gives a key; who the node is comes from the token."""

    token: str = Field(min_length=8, max_length=200)
    request_pem: RequestPem


class Joined(Answer):
    """`certificate_pem` is empty while `state` is waiting; the same ask again then brings the answer."""

    id: str
    state: str
    node: str
    zone: str
    fingerprint: str
    certificate_pem: str


class NodeJoin(Answer):
    id: str
    node: str
    zone: str
    address: str
    fingerprint: str
    source: str
    asked_at: AwareDatetime
    state: str
    decided_at: AwareDatetime | None
    decided_by: str


class ApproveJoin(Strict):
    """`fingerprint` is what the node's own screen shows: whoever approves has compared."""

    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RevokeNode(Strict):
    reason: Reason


class Revocation(Answer):
    node: str
    reason: str
    revoked_at: AwareDatetime
    revoked_by: str
    lifted_at: AwareDatetime | None


class SeenLeaf(Answer):
    node: str
    name: str
    serial: str
    not_before: AwareDatetime
    not_after: AwareDatetime


class AskLeaf(Strict):
    request_pem: RequestPem


class RenewedLeaf(Answer):
    """`now` is the control plane's time, for a node that is wrong about it."""

    certificate_pem: str
    not_after: AwareDatetime
    now: AwareDatetime


class LeafReading(Strict):
    """A certificate that lies on a node, as its agent reads it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    serial: Annotated[str, Field(pattern=r"^[0-9a-f]{1,40}$")]
    not_before: AwareDatetime
    not_after: AwareDatetime
