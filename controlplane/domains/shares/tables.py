from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, DateTime, ForeignKey, Index, Integer, String, Text, false, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class Share(Table):
    """An organisation, a project or a team. It is archived, never deleted: neither name nor slot is used again."""

    __tablename__ = "shares"
    __table_args__ = (
        CheckConstraint("kind in ('organisation', 'project', 'team')", name="kind"),
        CheckConstraint("(parent is null) = (kind = 'organisation')", name="parent"),
        CheckConstraint("slot is null or kind = 'project'", name="slot"),
        CheckConstraint("weight > 0", name="weight"),
    )

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(12))
    parent: Mapped[str | None] = mapped_column(ForeignKey("shares.name"))
    slot: Mapped[int | None] = mapped_column(Integer, unique=True)
    weight: Mapped[int] = mapped_column(Integer, default=1)
    keeps_content: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    archived_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class ShareQuota(Table):
    """Whole GPUs of one type for one share."""

    __tablename__ = "share_quotas"
    __table_args__ = (CheckConstraint("0 <= guaranteed and guaranteed <= most", name="order"),)

    share: Mapped[str] = mapped_column(ForeignKey("shares.name"), primary_key=True)
    gpu_type: Mapped[str] = mapped_column(String(40), primary_key=True)
    guaranteed: Mapped[int] = mapped_column(Integer)
    most: Mapped[int] = mapped_column(Integer)
    set_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class PoolRow(Table):
    __tablename__ = "pools"
    __table_args__ = (
        CheckConstraint("max_time_s > 0 and grace_s >= 0", name="times"),
        CheckConstraint("over_priority <= priority", name="priorities"),
    )

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    max_gpus: Mapped[dict[str, int]] = mapped_column(JSONB)
    max_time_s: Mapped[int] = mapped_column(Integer)
    grace_s: Mapped[int] = mapped_column(Integer)
    priority: Mapped[int] = mapped_column(Integer)
    over_priority: Mapped[int] = mapped_column(Integer)
    project_most: Mapped[int | None] = mapped_column(Integer)


class ReservationRow(Table):
    """Nodes that are kept for something. It ends; it is never deleted.

    `chosen` are those that the scheduler took last where only a number is asked for.
    """

    __tablename__ = "reservations"
    __table_args__ = (
        CheckConstraint("kind in ('maintenance', 'guaranteed', 'spare')", name="kind"),
        CheckConstraint("ends_at is null or ends_at > starts_at", name="times"),
        Index("uq_reservations_live_name", "name", unique=True, postgresql_where=text("deleted_at is null")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    kind: Mapped[str] = mapped_column(String(12))
    starts_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ends_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    nodes: Mapped[list[str]] = mapped_column(ARRAY(String(63)))
    node_count: Mapped[int] = mapped_column(Integer)
    chosen: Mapped[list[str]] = mapped_column(ARRAY(String(63)), default=list)
    accounts: Mapped[list[str]] = mapped_column(ARRAY(String(32)))
    reason: Mapped[str] = mapped_column(Text)
    made_by: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
