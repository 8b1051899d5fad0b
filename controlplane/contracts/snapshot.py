"""What the gateway needs to serve: signed by the control plane, nothing else is believed."""

from typing import Literal

from pydantic import AwareDatetime

from controlplane.contracts.strict import Strict

Surface = Literal[
    "chat", "completions", "responses", "embeddings", "rerank", "score", "tokenize", "messages", "count_tokens"
]
Priority = Literal["interactive", "standard", "batch"]  # in the order in which they are served
BudgetScope = Literal["organisation", "project", "team", "workflow", "agent", "run", "key"]
BudgetUnit = Literal[
    "prompt_tokens", "completion_tokens", "calls", "retries", "tool_steps", "wall_seconds", "gpu_seconds"
]


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
    revision_id: str = ""  # "" is the endpoint's own
    ready_at: AwareDatetime | None = None


class SnapshotEndpoint(Strict):
    """An endpoint under the name that clients use as `model`.

    `parallel` requests run at once on one replica, with `gpus` GPUs each replica. `exclusive` lets in its own
    `project` alone, so that its cache of prompts holds nobody else's. `clearance` is a level, 0 to 3.
    """

    name: str
    endpoint_id: str
    revision_id: str
    zone: str
    context_tokens: int
    created_at: AwareDatetime
    replicas: tuple[SnapshotReplica, ...]
    project: str = ""
    model: str = ""
    adapter: str = "llama_cpp"
    surfaces: tuple[Surface, ...] = ("chat", "completions", "responses", "tokenize", "messages", "count_tokens")
    parallel: int = 0  # not known: nobody queues
    gpus: int = 0
    exclusive: bool = False
    jurisdiction: str = ""
    clearance: int = 3


class SnapshotSecret(Strict):
    """One live secret of a key, by its SHA-256."""

    secret_id: str
    sha256: str
    expires_at: AwareDatetime


class SnapshotKey(Strict):
    """An inference key. No endpoints or zones means all of them, no sources any address.

    `classification` is the highest that a request may carry, 0 to 3; `sources` are networks. `jurisdictions` are where
    its data may be (ISO 3166), none: wherever the other bounds let it. No request of it goes before `priority`.
    """

    key_id: str
    project: str
    secrets: tuple[SnapshotSecret, ...]
    endpoints: tuple[str, ...]
    zones: tuple[str, ...]
    purposes: tuple[str, ...]
    classification: int
    sources: tuple[str, ...]
    priority: Priority = "interactive"
    jurisdictions: tuple[str, ...] = ()


class SnapshotShare(Strict):
    """A part of the site that keys belong to. `chain` is what it is a part of, from its organisation down to itself.

    `salt` divides the engines' caches of prompts between projects. `weight` is its part of a busy endpoint.
    """

    name: str
    organisation: str = ""
    project: str = ""
    team: str = ""
    weight: int = 1
    salt: str = ""
    keeps_content: bool = False


class SnapshotBudget(Strict):
    """A limit of what may be used, handed to gateways in allotments.

    `share` and `name` say whose: the organisation, project or team `share`; the key `name`; or within `share` the
    workflow, agent or run `name`, where "*" is each one for itself. `exception` is how much a gateway may go beyond
    its allotment while the control plane cannot be reached; 0 is a hard budget.
    """

    budget_id: str
    scope: BudgetScope
    share: str
    name: str = ""
    unit: BudgetUnit
    exception: int = 0
    ends_at: AwareDatetime | None = None


class Snapshot(Strict):
    """What is in force. `policy_sha256` names the policy set, `policies` is its text, None only the constitution.

    `leaving` are replicas of deleted endpoints: they finish what they have and take nothing new.
    """

    site: str
    version: int
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    policy_sha256: str = ""
    policies: str | None = None
    keys: tuple[SnapshotKey, ...]
    endpoints: tuple[SnapshotEndpoint, ...]
    leaving: tuple[SnapshotReplica, ...] = ()
    shares: tuple[SnapshotShare, ...] = ()
    budgets: tuple[SnapshotBudget, ...] = ()


class SignedSnapshot(Strict):
    """`payload` is the canonical JSON of a Snapshot; `signature` is Ed25519 over its UTF-8 bytes, base64."""

    payload: str
    signature: str
