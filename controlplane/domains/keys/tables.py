from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, SmallInteger, String, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from controlplane.contracts.snapshot import Priority
from controlplane.kit.tx import Table


class InferenceKey(Table):
    """What a key may be used for; `project` is the tenant that owns it, "" the site itself."""

    __tablename__ = "inference_keys"
    __table_args__ = (
        CheckConstraint("classification between 0 and 3", name="classification"),
        CheckConstraint("cardinality(purposes) > 0", name="purposes"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    project: Mapped[str] = mapped_column(String(63), index=True)
    made_by: Mapped[str] = mapped_column(String(120))
    endpoints: Mapped[list[str]] = mapped_column(ARRAY(String(80)))
    zones: Mapped[list[str]] = mapped_column(ARRAY(String(63)))
    purposes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    classification: Mapped[int] = mapped_column(SmallInteger)
    sources: Mapped[list[str]] = mapped_column(ARRAY(String(49)))
    jurisdictions: Mapped[list[str]] = mapped_column(ARRAY(String(2)), default=list)
    priority: Mapped[Priority] = mapped_column(String(12), default="interactive")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    secrets: Mapped[list["KeySecret"]] = relationship(order_by="KeySecret.created_at", lazy="raise")


class KeySecret(Table):
    """One of at most two secrets of a key, by its SHA-256: 256 random bits need no slow hash."""

    __tablename__ = "inference_key_secrets"
    __table_args__ = (
        CheckConstraint("slot in (1, 2)", name="slot"),
        CheckConstraint("expires_at <= created_at + interval '365 days'", name="lifetime"),
        Index(
            "uq_inference_key_secrets_live", "key_id", "slot", unique=True, postgresql_where=text("ended_at is null")
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("inference_keys.id"), index=True)
    slot: Mapped[int] = mapped_column(SmallInteger)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
