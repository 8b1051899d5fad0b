"""The admin API's shapes, shared by the server, the typed client and the CLI."""

from typing import Annotated, Any, Generic, Literal, TypeVar  # Any: a reading is as its agent tells it

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from controlplane.contracts.strict import Answer, Strict

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$", description="lower-case letters, digits, . and -")]
ShareName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="a letter, then lower-case letters, digits and -")
]

Row = TypeVar("Row", bound=BaseModel)


class Rows(Answer, Generic[Row]):
    """One page of a list; `cursor` leads to the next one, null on the last."""

    items: tuple[Row, ...]
    cursor: str | None = None


class Problem(Answer):
    """RFC 9457 problem details; `remedy` is the next thing to do, `request_id` finds the reason in the log."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    reasons: tuple[str, ...] = ()
    request_id: str = ""


class DeclareGpus(Strict):
    """`mig` are the profiles that each of these GPUs is cut into; none: it stays whole."""

    type: Name
    count: int = Field(ge=1, le=64)
    mig: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-z.+]{1,40}$")], ...] = Field(default=(), max_length=16)


class DeclareNode(Strict):
    name: Name
    address: str
    zone: Name
    purposes: tuple[str, ...]
    gpus: tuple[DeclareGpus, ...] = ()


class DeclareZone(Strict):
    """A part of the site with one jurisdiction (ISO 3166); data up to `clearance` may be there, 0 to 3."""

    name: Name
    jurisdiction: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    clearance: int = Field(ge=0, le=3)


class DeclareNodes(Strict):
    """Nothing but public data may be in a zone that is not among `zones`."""

    nodes: tuple[DeclareNode, ...] = Field(min_length=1)
    zones: tuple[DeclareZone, ...] = Field(default=(), max_length=100)


class Declared(Answer):
    changed: bool


class Cordon(Answer):
    """Why a GPU takes no new work, who said so, and when."""

    reason: str
    owner: str
    at: AwareDatetime


class CordonGpu(Strict):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]


class Gpu(Answer):
    """`index` is the driver's number on the node, `island` the same for GPUs that reach each other over NVLink.

    `mig` has the profile of each instance, null while MIG is off. `owner` of a live lease, "" for none.
    """

    uuid: str
    node: str
    name: str
    memory_total_bytes: int
    state: str
    type: str = ""
    index: int = 0
    minor: int | None = None
    island: int | None = None
    numa: int | None = None
    mig: tuple[str, ...] | None = None
    vbios: str = ""
    cordon: Cordon | None = None
    owner: str = ""


class GpuDetail(Gpu):
    """`reading` is what the agent last told, and `seen_at` when."""

    reading: dict[str, Any]
    seen_at: AwareDatetime


class Node(Answer):
    name: str
    zone: str
    address: str
    state: str
    reasons: tuple[str, ...]
    last_report_at: AwareDatetime | None
    gpus: tuple[Gpu, ...]
    differences: tuple[str, ...] = ()
    driver: str = ""


class Lease(Answer):
    id: str
    owner: str
    count: int
    gpu_type: str
    node: str
    granted_at: AwareDatetime
    ended_at: AwareDatetime | None
    share: str = ""
    pool: str = ""
    over_quota: bool = False
    preemptible: bool = False
    expires_at: AwareDatetime | None = None
    end_reason: str = ""


class ModelFile(Strict):
    """A further file of a model, beside the one that a server opens."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,190}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: int = Field(ge=0)


class ModelManifest(Strict):
    """What the bundle says of weights that a server here can open. Sizes in bytes; `file` is what it opens."""

    name: Name
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,190}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: int = Field(gt=0)
    format: Literal["gguf"]
    licence: str = Field(min_length=1, max_length=80)
    origin: str = Field(default="", max_length=400)
    residency: str = Field(default="", max_length=80)
    context_tokens: int = Field(gt=0)
    weights_bytes: int = Field(gt=0)
    kv_bytes_per_token: int = Field(ge=0)
    vocab_tokens: int = Field(gt=0)
    files: tuple[ModelFile, ...] = Field(default=(), max_length=1000)


class Model(Answer):
    name: str
    sha256: str
    format: str
    licence: str
    size_bytes: int
    context_tokens: int
    registered_at: AwareDatetime


Adapter = Literal["llama_cpp", "embed", "rerank"]  # what completes, gives vectors, ranks; llama.cpp all three


class EndpointConfig(Strict):
    """What a revision fixes. `context_tokens` null takes the model's own."""

    model: Name
    adapter: Adapter = "llama_cpp"
    gpus: int = Field(default=1, ge=0, le=64)
    gpu_type: Annotated[str, Field(pattern=r"^[a-z0-9]{0,40}$")] = ""
    context_tokens: int | None = Field(default=None, gt=0)
    parallel: int = Field(default=4, ge=1, le=256)


class CreateEndpoint(Strict):
    """`floor` replicas are never preempted; null is all of them. `exclusive` lets in its own project's keys alone."""

    name: Name
    zone: Name = "main"
    replicas: int = Field(default=1, ge=0, le=64)
    config: EndpointConfig
    project: ShareName = "redoubt"
    floor: int | None = Field(default=None, ge=0, le=64)
    exclusive: bool = False


class ReviseEndpoint(Strict):
    """What is null stays as it is."""

    replicas: int | None = Field(default=None, ge=0, le=64)
    config: EndpointConfig | None = None
    floor: int | None = Field(default=None, ge=0, le=64)


class Replica(Answer):
    id: str
    revision_id: str
    state: str
    node: str
    reason: str
    created_at: AwareDatetime
    ready_at: AwareDatetime | None
    ended_at: AwareDatetime | None


class Revision(Answer):
    id: str
    number: int
    model: str
    adapter: str
    gpus: int
    gpu_type: str
    gpu_memory_bytes: int
    context_tokens: int
    parallel: int


class Endpoint(Answer):
    id: str
    name: str
    zone: str
    project: str = ""
    floor: int | None = None
    exclusive: bool = False
    replicas_wanted: int
    replicas_ready: int
    wait_reason: str
    revision: Revision
    replicas: tuple[Replica, ...]
    created_at: AwareDatetime


class Incident(Answer):
    """`evidence_sha256` is the digest of the proof that shows it; `times` counts its openings."""

    id: str
    kind: str
    subject: str
    opened_at: AwareDatetime
    last_seen_at: AwareDatetime
    closed_at: AwareDatetime | None
    times: int
    detail: str
    evidence_sha256: str


class AuditEvent(Answer):
    seq: int
    event_id: str
    at: AwareDatetime
    actor: str
    role: str
    event: str
    resource: str
    details: dict[str, object]
