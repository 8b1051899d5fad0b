"""Jobs: what is asked and told about them, and what their supervisor on a node says to the control plane."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Base64Bytes, Field, StringConstraints, model_validator

from controlplane.contracts.strict import Answer, Strict

MOST_WORDS_BYTES = 64 * 1024  # command and environment together; Linux takes 128 KiB in one string
MOST_ELEMENTS = 1000  # Slurm's MaxArraySize is 1001 unless it is set
CHUNK_BYTES = 32 * 1024
CHUNKS_AT_ONCE = 8
LOG_BYTES = 64 * 1024**2  # of one run over all its starts
RESERVED = ("REDOUBT_", "SLURM_", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")

Share = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Zone = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.-]{0,62})?$")]
JobName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
GpuWord = Annotated[str, Field(pattern=r"^[a-z0-9]{0,40}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=32 * 1024, pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Value = Annotated[str, StringConstraints(max_length=32 * 1024, pattern=r"^[^\x00]*$")]
RANGE = r"[0-9]{1,4}(-[0-9]{1,4})?"
Indexes = Annotated[str, Field(pattern=rf"^({RANGE}(,{RANGE}){{0,99}}(%[1-9][0-9]{{0,3}})?)?$")]
ClientToken = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,100}$")]


class Checkpoint(Strict):
    """The signal that the command gets `before_s` seconds before it is ended, also when it is preempted."""

    signal: Literal["USR1", "USR2", "HUP", "INT", "TERM"] = "USR1"
    before_s: int = Field(default=60, ge=5, le=3600)


class RunJob(Strict):
    """What to run. Sizes in bytes and megabytes; `requeues` null means yes for training, no otherwise.

    The same `token` of one share submits once, for ever. `priority` counts within the class of work.
    """

    share: Share
    pool: Literal["training", "interactive", "inference"] = "training"
    command: tuple[Word, ...] = Field(min_length=1, max_length=1000)
    environment: dict[Variable, Value] = Field(default_factory=dict, max_length=200)
    name: JobName = "job"
    gpus: int = Field(default=0, ge=0, le=64)
    gpu_type: GpuWord = ""
    gpu_memory_bytes: int = Field(default=0, ge=0, le=1 << 50)
    cpus: int = Field(default=1, ge=1, le=1024)
    memory_mb: int = Field(default=0, ge=0, le=1 << 26)
    zone: Zone = ""
    time_limit_s: int = Field(default=3600, ge=60, le=90 * 86400)
    array: Indexes = ""
    checkpoint: Checkpoint | None = None
    requeues: bool | None = None
    priority: int = Field(default=50, ge=0, le=100)
    image: str = Field(default="", max_length=200)
    token: ClientToken | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        words = len(self.model_dump_json(include={"command", "environment"}).encode())  # as it travels
        if words > MOST_WORDS_BYTES:
            raise ValueError(f"command and environment are {words} bytes, {MOST_WORDS_BYTES} at most: use a file")
        if taken := sorted(name for name in self.environment if name.startswith(RESERVED)):
            raise ValueError(f"{', '.join(taken)}: set for the job by the platform")
        if self.gpus == 0 and (self.gpu_type or self.gpu_memory_bytes):
            raise ValueError("a type or memory of GPUs is given and no GPU is asked for")
        return self


class JobRun(Answer):
    """One element of a job; a job without an array has one, and `index` is null. `restarts` counts from 0."""

    id: str
    index: int | None
    state: str
    reason: str
    remedy: str
    node: str
    gpus: tuple[str, ...]
    restarts: int
    status: int | None
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    heard_at: AwareDatetime | None


class JobLine(Answer):
    """A job in a list. `over_quota` work may be preempted by all work within its guarantee."""

    id: str
    name: str
    share: str
    project: str
    pool: str
    state: str
    gpus: int
    gpu_type: str
    node: str
    reason: str
    runs: int
    over_quota: bool
    made_by: str
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


class Job(JobLine):
    """`variables` are the names of the environment alone: values may be secrets. A job has 200 runs here at most."""

    command: tuple[str, ...]
    variables: tuple[str, ...]
    gpu_memory_bytes: int
    cpus: int
    memory_mb: int
    zone: str
    time_limit_s: int
    array: str
    checkpoint: Checkpoint | None
    requeues: bool
    priority: int
    remedy: str
    elements: tuple[JobRun, ...]


class JobPlan(Answer):
    """What a submission would be; nothing was written."""

    account: str
    partition: str
    qos: str
    user: str
    gpu_type: str
    over_quota: bool
    avoid_nodes: tuple[str, ...]
    time_limit_s: int
    runs: int
    notes: tuple[str, ...]


class JobExplanation(Answer):
    """Why a job is as it is. `details` are what allocation says of every node, when it waits."""

    state: str
    reason: str
    remedy: str
    details: tuple[str, ...]


class LogPart(Answer):
    """A piece of what a run wrote. `stream` is "out", "err" or "redoubt", which speaks of the log itself."""

    restarts: int
    sequence: int
    stream: str
    at: AwareDatetime
    data: Base64Bytes


class JobLog(Answer):
    """`cursor` leads on from here, also when nothing is there yet; `is_over` says that no more will come."""

    run_id: str
    parts: tuple[LogPart, ...]
    cursor: str
    is_over: bool


class JobSpec(Strict):
    """Everything the supervisor needs; travels in the job's environment as REDOUBT_JOB_SPEC.

    `nonce` is the job's: with it each start of each of its runs registers once. `home` is the project's own folder on
    the node, `first_port` to `last_port` its own ports, 0 where it has none.
    """

    job_id: str
    nonce: str
    api_url: str
    site_ca_pem: str
    is_array: bool
    command: tuple[str, ...]
    environment: dict[str, str]
    gpus: int
    home: str
    first_port: int = 0
    last_port: int = 0
    signal: str = ""
    signal_before_s: int = 0
    stop_grace_s: float = 30.0
    renew_s: float = 5.0
    log_bytes: int = LOG_BYTES
    spool_bytes: int = 16 * 1024**2


class JobPhase(StrEnum):
    RUNNING = "running"
    CHECKPOINTING = "checkpointing"
    ENDED = "ended"
    REFUSED = "refused"


class RegisterJobRun(Strict):
    """Sent at each start before the command exists; `restarts` is how often this run has started before.

    `token` is made by the supervisor, so that it may ask again when an answer was lost: one start has one token.
    """

    run_id: Annotated[str, Field(max_length=60)]
    nonce: Annotated[str, Field(max_length=100)]
    token: Annotated[str, Field(min_length=32, max_length=100)]
    engine_ref: Annotated[str, Field(max_length=80)]
    node: Annotated[str, Field(max_length=63)]
    restarts: int = Field(ge=0, le=1_000_000)
    gpu_uuids: Annotated[tuple[Annotated[str, Field(max_length=96)], ...], Field(max_length=64)]


class RegisteredJobRun(Answer):
    """`refusal` says why the command must not start here; "" when it may."""

    refusal: str = ""


class RenewJobRun(Strict):
    """`status` is the command's own, of a command that has ended; a signal N ends it with 128 + N."""

    restarts: int = Field(ge=0, le=1_000_000)
    phase: JobPhase
    status: int | None = Field(default=None, ge=0, le=255)
    detail: str = Field(default="", max_length=2000)


class RenewedJobRun(Answer):
    """`keep` false: another start has taken over, or the run is over: kill the command. `stop` true: ask it to end."""

    keep: bool
    stop: bool


class OutputPart(Strict):
    stream: Literal["out", "err", "redoubt"]
    at: AwareDatetime
    data: Annotated[Base64Bytes, Field(min_length=1, max_length=CHUNK_BYTES)]


class ShipOutput(Strict):
    """Parts in order, without a gap after those that were taken before."""

    restarts: int = Field(ge=0, le=1_000_000)
    first_sequence: int = Field(ge=0, le=1 << 40)
    parts: tuple[OutputPart, ...] = Field(min_length=1, max_length=CHUNKS_AT_ONCE)
    is_last: bool = False


class ShippedOutput(Answer):
    """`next_sequence` is the first that was not taken: go on from there. `is_full`: the rest is not kept."""

    next_sequence: int
    is_full: bool
