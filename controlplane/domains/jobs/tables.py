from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class Job(Table):
    """What was asked, and for whom. `number` is the order of submission; values of `environment` may be secrets."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("gpus >= 0 and cpus > 0 and time_limit_s > 0", name="sizes"),
        Index("uq_jobs_share_token", "share", "token", unique=True, postgresql_where=text("token is not null")),
        Index("ix_jobs_live", "id", postgresql_where=text("ended_at is null")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    name: Mapped[str] = mapped_column(String(63))
    share: Mapped[str] = mapped_column(String(32))
    project: Mapped[str] = mapped_column(String(32), index=True)
    pool: Mapped[str] = mapped_column(String(20))
    made_by: Mapped[str] = mapped_column(String(120))
    token: Mapped[str | None] = mapped_column(String(100))
    ask_sha256: Mapped[str] = mapped_column(String(64))
    command: Mapped[list[str]] = mapped_column(ARRAY(Text))
    environment: Mapped[dict[str, str]] = mapped_column(JSONB)
    gpus: Mapped[int] = mapped_column(Integer)
    gpu_type: Mapped[str] = mapped_column(String(40))
    gpu_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    cpus: Mapped[int] = mapped_column(Integer)
    memory_mb: Mapped[int] = mapped_column(Integer)
    zone: Mapped[str] = mapped_column(String(63))
    time_limit_s: Mapped[int] = mapped_column(Integer)
    array: Mapped[str] = mapped_column(Text)
    signal: Mapped[str] = mapped_column(String(8))
    signal_before_s: Mapped[int] = mapped_column(Integer)
    requeues: Mapped[bool] = mapped_column(Boolean)
    priority: Mapped[int] = mapped_column(SmallInteger)
    over_quota: Mapped[bool] = mapped_column(Boolean)
    nonce: Mapped[str] = mapped_column(String(80))
    state: Mapped[str] = mapped_column(String(15))
    stop_asked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    submitted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    log_deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class JobRun(Table):
    """One element of a job. `restarts` is that of the start that lives now, null while none does."""

    __tablename__ = "job_runs"
    __table_args__ = (Index("ix_job_runs_live", "id", postgresql_where=text("ended_at is null")),)

    id: Mapped[str] = mapped_column(String(60), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    array_index: Mapped[int | None] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(15))
    stamp: Mapped[int] = mapped_column(Integer, default=0)
    reason: Mapped[str] = mapped_column(Text, default="")
    remedy: Mapped[str] = mapped_column(Text, default="")
    engine_ref: Mapped[str] = mapped_column(String(80), default="")
    node: Mapped[str] = mapped_column(String(63), default="")
    restarts: Mapped[int | None] = mapped_column(Integer)
    status: Mapped[int | None] = mapped_column(Integer)
    missing_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    stop_asked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    stop_told_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0)  # of all its starts


class JobStart(Table):
    """One time that a run started. It is registered once, by its supervisor, and has a token and an output of its own.

    `gpu_uuids` are the ones that its lease is about.
    """

    __tablename__ = "job_starts"

    run_id: Mapped[str] = mapped_column(ForeignKey("job_runs.id"), primary_key=True)
    restarts: Mapped[int] = mapped_column(Integer, primary_key=True)
    node: Mapped[str] = mapped_column(String(63))
    gpu_uuids: Mapped[list[str]] = mapped_column(ARRAY(String(96)))
    token_sha256: Mapped[str] = mapped_column(String(64), default="")
    refusal: Mapped[str] = mapped_column(Text, default="")
    said_status: Mapped[int | None] = mapped_column(Integer)
    next_part: Mapped[int] = mapped_column(BigInteger, default=0)
    is_log_over: Mapped[bool] = mapped_column(Boolean, default=False)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    registered_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    heard_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    end_reason: Mapped[str] = mapped_column(Text, default="")


class JobOutput(Table):
    """A part of what a run wrote, in order; kept inside the boundary for a bounded time."""

    __tablename__ = "job_output"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "restarts"],
            ["job_starts.run_id", "job_starts.restarts"],
            name="fk_job_output_run_id_job_starts",
        ),
    )

    run_id: Mapped[str] = mapped_column(String(60), primary_key=True)
    restarts: Mapped[int] = mapped_column(Integer, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    stream: Mapped[str] = mapped_column(String(7))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    data: Mapped[bytes] = mapped_column(LargeBinary)
