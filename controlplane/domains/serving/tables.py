from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class Model(Table):
    """AI weights that the site holds, by digest."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    file: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    format: Mapped[str] = mapped_column(String(20))
    licence: Mapped[str] = mapped_column(String(80))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    weights_bytes: Mapped[int] = mapped_column(BigInteger)
    kv_bytes_per_token: Mapped[int] = mapped_column(BigInteger)
    context_tokens: Mapped[int] = mapped_column(Integer)
    vocab_tokens: Mapped[int] = mapped_column(Integer)
    registered_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Endpoint(Table):
    """`floor` replicas are never preempted, None is all of them; `project` is whose share they use."""

    __tablename__ = "endpoints"
    __table_args__ = (
        CheckConstraint("replicas >= 0", name="replicas"),
        CheckConstraint("floor >= 0", name="floor"),
        Index("uq_endpoints_live_name", "name", unique=True, postgresql_where=text("deleted_at is null")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    zone: Mapped[str] = mapped_column(String(63))
    project: Mapped[str] = mapped_column(String(32), default="redoubt")
    replicas: Mapped[int] = mapped_column(Integer)
    floor: Mapped[int | None] = mapped_column(Integer)
    exclusive: Mapped[bool] = mapped_column(Boolean, default=False)  # for ever: its engines keep its project's prompts
    revision_id: Mapped[str] = mapped_column(String(40))
    wait_reason: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Revision(Table):
    """An immutable configuration: a trigger refuses every UPDATE."""

    __tablename__ = "revisions"
    __table_args__ = (Index("uq_revisions_endpoint_id_number", "endpoint_id", "number", unique=True),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id"))
    number: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    adapter: Mapped[str] = mapped_column(String(20))
    gpus: Mapped[int] = mapped_column(Integer)
    gpu_type: Mapped[str] = mapped_column(String(40))
    gpu_memory_bytes: Mapped[int] = mapped_column(BigInteger)
    context_tokens: Mapped[int] = mapped_column(Integer)
    parallel: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Replica(Table):
    """One running copy. `stamp` grows with every change, so that a loop applies only to what it loaded.

    What `yields` is above its endpoint's floor and may be preempted. `time_limit_s` is what its run was given.
    """

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id"), index=True)
    revision_id: Mapped[str] = mapped_column(ForeignKey("revisions.id"))
    state: Mapped[str] = mapped_column(String(12), index=True)
    stamp: Mapped[int] = mapped_column(Integer, default=0)
    reason: Mapped[str] = mapped_column(Text, default="")
    nonce: Mapped[str] = mapped_column(String(80), default="")  # until it is used, once
    run_token_sha256: Mapped[str] = mapped_column(String(64), default="", index=True)
    yields: Mapped[bool] = mapped_column(Boolean, default=False)
    time_limit_s: Mapped[int] = mapped_column(Integer, default=604800)
    engine_ref: Mapped[str] = mapped_column(String(80), default="")
    node: Mapped[str] = mapped_column(String(63), default="")
    host: Mapped[str] = mapped_column(String(63), default="")
    port: Mapped[int] = mapped_column(Integer, default=0)
    certificate_pem: Mapped[str] = mapped_column(Text, default="")
    lease_expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ready_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    draining_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class PublishedSnapshot(Table):
    """The signed snapshot that gateways serve on; old versions are kept as evidence for a while."""

    __tablename__ = "published_snapshots"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    content_sha256: Mapped[str] = mapped_column(String(64))
    payload: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(Text)
    issued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ProcessBeat(Table):
    """That a process has run without a gap since `up_since`: silence of others counts only while we could hear."""

    __tablename__ = "process_beats"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    up_since: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
