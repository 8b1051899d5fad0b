"""The log and what stands beside it. The service may insert and select here, and nothing more (migrations/rights)."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table

THIS_TRANSACTION = text("(pg_current_xact_id()::text)::bigint")


class AuditEvent(Table):
    """One thing that happened, numbered in the order of writing; a lower `seq` may commit after a higher one.

    `body` is the log's entry, byte for byte; the other columns are for asking. `xact` is the writing transaction.
    """

    __tablename__ = "audit_events"

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(40), unique=True)
    xact: Mapped[int] = mapped_column(BigInteger, server_default=THIS_TRANSACTION, index=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    actor: Mapped[str] = mapped_column(String(120), index=True)
    role: Mapped[str] = mapped_column(String(40))
    event: Mapped[str] = mapped_column(String(80), index=True)
    resource: Mapped[str] = mapped_column(String(200), index=True)
    details: Mapped[dict[str, object]] = mapped_column(JSONB)
    body: Mapped[str] = mapped_column(Text)


class AuditPersonal(Table):
    """What an event says of persons, sealed: of `subject` who acted, and of `about` where the object is one."""

    __tablename__ = "audit_personal"

    event_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    subject: Mapped[str] = mapped_column(String(120), index=True)
    about: Mapped[str] = mapped_column(String(200), index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class AuditPersonalKey(Table):
    """The key of one side record. Erasure deletes it, and nothing else ever does."""

    __tablename__ = "audit_personal_keys"

    event_id: Mapped[str] = mapped_column(ForeignKey("audit_personal.event_id"), primary_key=True)
    key: Mapped[bytes] = mapped_column(LargeBinary)


class AuditLeaf(Table):
    """The place of an event in the tree. It stays when the event's body is purged."""

    __tablename__ = "audit_leaves"

    leaf_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(BigInteger, unique=True)
    event_id: Mapped[str] = mapped_column(String(40), unique=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditNode(Table):
    """The root over one full tile: `level` 1 covers 256 leaves, 2 covers 65,536, and so on (C2SP tlog-tiles)."""

    __tablename__ = "audit_nodes"

    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class AuditCheckpoint(Table):
    """A signed state of the tree; `signer` is the verifier key of the signature."""

    __tablename__ = "audit_checkpoints"

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str] = mapped_column(Text)
    signer: Mapped[str] = mapped_column(Text)
    made_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AuditCosignature(Table):
    """A witness saw this state and found it to go on from the one before. `line` is its signature line."""

    __tablename__ = "audit_cosignatures"

    witness: Mapped[str] = mapped_column(String(120), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    verifier_key: Mapped[str] = mapped_column(Text)
    line: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AuditHold(Table):
    """While one is open nothing is purged."""

    __tablename__ = "audit_holds"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    reason: Mapped[str] = mapped_column(String(400))
    placed_by: Mapped[str] = mapped_column(String(120))
    placed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AuditHoldEnd(Table):
    """That a hold is over: a row of its own, because no row of the log's tables ever changes."""

    __tablename__ = "audit_hold_ends"

    hold_id: Mapped[str] = mapped_column(ForeignKey("audit_holds.id"), primary_key=True)
    ended_by: Mapped[str] = mapped_column(String(120))
    ended_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class AuditPurge(Table):
    """Bodies of leaves below `before_leaf` were dropped."""

    __tablename__ = "audit_purges"

    event_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    before_leaf: Mapped[int] = mapped_column(BigInteger)
    bodies: Mapped[int] = mapped_column(Integer)
    purged_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
