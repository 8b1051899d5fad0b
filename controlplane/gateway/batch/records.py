"""What is kept of a file and of a batch beside their content, and how OpenAI's clients see both."""

import re
import secrets
from typing import Final, Literal

import msgspec

FILE_ID = re.compile(r"file-[0-9a-f]{32}")
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")

FilePurpose = Literal["batch", "batch_output"]
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
OVER: Final[frozenset[BatchStatus]] = frozenset({"failed", "completed", "expired", "cancelled"})


def new_file_id(now_s: int) -> str:
    """Return a name that sorts by time, so that lists need not open what they do not show."""
    return f"file-{_token(now_s)}"


def new_batch_id(now_s: int) -> str:
    return f"batch_{_token(now_s)}"


def _token(now_s: int) -> str:
    return f"{now_s:08x}{secrets.token_hex(12)}"


class FileRecord(msgspec.Struct, frozen=True):
    """Times are seconds since 1970; `classification` is a level, 0 to 3."""

    id: str
    project: str
    filename: str
    bytes: int
    purpose: FilePurpose
    classification: int
    created_at: int
    expires_at: int


class Fault(msgspec.Struct, frozen=True):
    """Why a batch or one of its lines could not be; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Creator(msgspec.Struct, frozen=True):
    """Who asked for a batch and for what: each of its lines is admitted anew as if it came from there now."""

    key_id: str
    source: str
    purpose: str
    classification: int
    workflow: str = ""
    agent: str = ""
    run: str = ""
    step: str = ""


class Counts(msgspec.Struct, frozen=True):
    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchRecord(msgspec.Struct, frozen=True):
    """Times are seconds since 1970, None until then.

    `ending` is what it will be once its results are written, `ending_fault` what its other lines fail with.
    """

    id: str
    project: str
    creator: Creator
    endpoint: str
    input_file_id: str
    completion_window: str
    output_kept_s: int
    created_at: int
    expires_at: int
    metadata: dict[str, str] | None = None
    status: BatchStatus = "validating"
    ending: BatchStatus | None = None
    ending_fault: Fault | None = None
    model: str = ""
    faults: tuple[Fault, ...] = ()
    counts: Counts = Counts()
    waiting: Fault | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None

    @property
    def is_over(self) -> bool:
        return self.status in OVER


def line_id(record: BatchRecord, number: int) -> str:
    """Return the name of what became of a line."""
    return f"batch_req_{record.id.removeprefix('batch_')}_{number}"


class _File(msgspec.Struct):
    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    object: str = "file"
    status: str = "processed"


def to_file(record: FileRecord) -> msgspec.Struct:
    return _File(record.id, record.bytes, record.created_at, record.expires_at, record.filename, record.purpose)


class _Faults(msgspec.Struct):
    data: tuple[Fault, ...]
    object: str = "list"


class _Batch(msgspec.Struct):
    id: str
    endpoint: str
    errors: _Faults | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    metadata: dict[str, str] | None
    model: str | None
    waiting: Fault | None  # ours: what its lines wait for
    object: str = "batch"


def to_batch(record: BatchRecord) -> msgspec.Struct:
    return _Batch(
        id=record.id,
        endpoint=record.endpoint,
        errors=_Faults(record.faults) if record.faults else None,
        input_file_id=record.input_file_id,
        completion_window=record.completion_window,
        status=record.status,
        output_file_id=record.output_file_id if record.is_over else None,
        error_file_id=record.error_file_id if record.is_over else None,
        created_at=record.created_at,
        in_progress_at=record.in_progress_at,
        expires_at=record.expires_at,
        finalizing_at=record.finalizing_at,
        completed_at=record.completed_at,
        failed_at=record.failed_at,
        expired_at=record.expired_at,
        cancelling_at=record.cancelling_at,
        cancelled_at=record.cancelled_at,
        request_counts=record.counts,
        metadata=record.metadata,
        model=record.model or None,
        waiting=record.waiting,
    )
