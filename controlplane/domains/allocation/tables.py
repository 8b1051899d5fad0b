from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, DateTime, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class Lease(Table):
    """The right of one owner to `count` whole GPUs of one type until `expires_at`. It ends; it is never deleted.

    What is `preemptible` ends when the engine gives its GPUs to work that may take them.
    """

    __tablename__ = "leases"
    __table_args__ = (
        CheckConstraint("count > 0", name="count"),
        Index("uq_leases_live_owner", "owner", unique=True, postgresql_where=text("ended_at is null")),
        Index("ix_leases_live_expires_at", "expires_at", postgresql_where=text("ended_at is null")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    count: Mapped[int] = mapped_column(Integer)
    gpu_type: Mapped[str] = mapped_column(String(40))
    node: Mapped[str] = mapped_column(String(63))
    share: Mapped[str] = mapped_column(String(32))
    pool: Mapped[str] = mapped_column(String(20))
    over_quota: Mapped[bool] = mapped_column(Boolean)
    preemptible: Mapped[bool] = mapped_column(Boolean)
    granted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    end_reason: Mapped[str] = mapped_column(Text, default="")


class LeasedGpu(Table):
    """A GPU in a lease. The partial unique index is what makes "no GPU twice" true."""

    __tablename__ = "leased_gpus"
    __table_args__ = (
        Index("uq_leased_gpus_live", "gpu_uuid", unique=True, postgresql_where=text("released_at is null")),
    )

    lease_id: Mapped[str] = mapped_column(ForeignKey("leases.id"), primary_key=True)
    gpu_uuid: Mapped[str] = mapped_column(String(96), primary_key=True)
    released_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
