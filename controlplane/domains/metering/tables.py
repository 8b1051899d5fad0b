from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, Index, Integer, SmallInteger, String, text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class GatewaySpool(Table):
    """How far the spool of one worker of a gateway has been taken into the audit log."""

    __tablename__ = "gateway_spools"

    gateway: Mapped[str] = mapped_column(String(120), primary_key=True)
    boot: Mapped[str] = mapped_column(String(32), primary_key=True)
    next_seq: Mapped[int] = mapped_column(BigInteger)
    last_sha256: Mapped[str] = mapped_column(String(64))
    first_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    last_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class AmountSpent(Table):
    """What one life of a worker has spent of one account of a budget, by the lines of its spool.

    What all lives that are over have spent is one row, without gateway and boot.
    """

    __tablename__ = "amounts_spent"
    __table_args__ = (CheckConstraint("spent >= 0", name="spent"),)

    account: Mapped[str] = mapped_column(String(120), primary_key=True)
    gateway: Mapped[str] = mapped_column(String(120), primary_key=True)
    boot: Mapped[str] = mapped_column(String(32), primary_key=True)
    spent: Mapped[int] = mapped_column(BigInteger)


class GpuUse(Table):
    """One start of a run with GPUs, as the engine accounts for it. It is open until the engine says when it ended."""

    __tablename__ = "gpu_uses"
    __table_args__ = (
        CheckConstraint("gpus > 0", name="gpus"),
        CheckConstraint("ended_at is null or ended_at >= started_at", name="times"),
        Index("ix_gpu_uses_time", "started_at", "ended_at"),
        Index("ix_gpu_uses_open", "started_at", postgresql_where=text("ended_at is null")),
    )

    ref: Mapped[str] = mapped_column(String(120), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    account: Mapped[str] = mapped_column(String(80), index=True)
    user: Mapped[str] = mapped_column(String(80))
    partition: Mapped[str] = mapped_column(String(80))
    gpu_type: Mapped[str] = mapped_column(String(80))
    gpus: Mapped[int] = mapped_column(Integer)
    node: Mapped[str] = mapped_column(String(200))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    state: Mapped[str] = mapped_column(String(80))


class UsageImport(Table):
    """Until when what was used is known: one row."""

    __tablename__ = "usage_imports"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    known_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class InferenceRequest(Table):
    """One request as its gateway told of it: a trigger refuses every UPDATE. Times are microseconds.

    `share` is the project or team of its key.
    """

    __tablename__ = "inference_requests"
    __table_args__ = (
        Index("ix_inference_requests_ended_at", "ended_at"),
        Index("ix_inference_requests_request", "request"),
    )

    boot: Mapped[str] = mapped_column(String(32), primary_key=True)
    line: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    request: Mapped[str] = mapped_column(String(120))
    ended_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    share: Mapped[str] = mapped_column(String(63))
    workflow: Mapped[str] = mapped_column(String(120))
    agent: Mapped[str] = mapped_column(String(120))
    key: Mapped[str] = mapped_column(String(120))
    endpoint: Mapped[str] = mapped_column(String(120))
    model: Mapped[str] = mapped_column(String(120))
    zone: Mapped[str] = mapped_column(String(120))
    run: Mapped[str] = mapped_column(String(120))
    step: Mapped[str] = mapped_column(String(120))
    revision: Mapped[str] = mapped_column(String(120))
    replica: Mapped[str] = mapped_column(String(120))
    surface: Mapped[str] = mapped_column(String(120))
    priority: Mapped[str] = mapped_column(String(120))
    result: Mapped[str] = mapped_column(String(12))
    status: Mapped[int] = mapped_column(SmallInteger)
    code: Mapped[str] = mapped_column(String(120))
    finish: Mapped[str] = mapped_column(String(120))
    estimated: Mapped[bool] = mapped_column(Boolean)
    bytes_out: Mapped[int] = mapped_column(BigInteger)
    context_tokens: Mapped[int] = mapped_column(BigInteger)
    duration_us: Mapped[int] = mapped_column(BigInteger)
    gpu_us: Mapped[int] = mapped_column(BigInteger)
    queue_us: Mapped[int] = mapped_column(BigInteger)
    retries: Mapped[int] = mapped_column(BigInteger)
    itl_p50_us: Mapped[int | None] = mapped_column(BigInteger)
    itl_p99_us: Mapped[int | None] = mapped_column(BigInteger)
    tokens_cached: Mapped[int | None] = mapped_column(BigInteger)
    tokens_in: Mapped[int | None] = mapped_column(BigInteger)
    tokens_out: Mapped[int | None] = mapped_column(BigInteger)
    tokens_reasoning: Mapped[int | None] = mapped_column(BigInteger)
    ttft_us: Mapped[int | None] = mapped_column(BigInteger)


class InferenceSum(Table):
    """Requests of one hour or one day (`span`), added up as their lines arrive.

    Of `untold` ones the replica told no tokens, estimated or not; `ttft_calls` have a time to the first token.
    """

    __tablename__ = "inference_sums"

    span: Mapped[str] = mapped_column(String(4), primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    share: Mapped[str] = mapped_column(String(63), primary_key=True)
    workflow: Mapped[str] = mapped_column(String(120), primary_key=True)
    agent: Mapped[str] = mapped_column(String(120), primary_key=True)
    key: Mapped[str] = mapped_column(String(120), primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(120), primary_key=True)
    model: Mapped[str] = mapped_column(String(120), primary_key=True)
    zone: Mapped[str] = mapped_column(String(120), primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(BigInteger)
    untold: Mapped[int] = mapped_column(BigInteger)
    retries: Mapped[int] = mapped_column(BigInteger)
    tokens_in: Mapped[int] = mapped_column(BigInteger)
    tokens_out: Mapped[int] = mapped_column(BigInteger)
    tokens_cached: Mapped[int] = mapped_column(BigInteger)
    tokens_reasoning: Mapped[int] = mapped_column(BigInteger)
    gpu_us: Mapped[int] = mapped_column(BigInteger)
    queue_us: Mapped[int] = mapped_column(BigInteger)
    duration_us: Mapped[int] = mapped_column(BigInteger)
    ttft_us: Mapped[int] = mapped_column(BigInteger)
    ttft_calls: Mapped[int] = mapped_column(BigInteger)
