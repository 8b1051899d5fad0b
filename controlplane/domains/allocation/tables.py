from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class Lease(Table):
    """The right of one owner to `count` whole GPUs of one type. It ends; it is never deleted."""

    __tablename__ = "leases"
    __table_args__ = (
        CheckConstraint("count > 0", name="count"),
        Index("uq_leases_live_owner", "owner", unique=True, postgresql_where=text("ended_at is null")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    count: Mapped[int] = mapped_column(Integer)
    gpu_type: Mapped[str] = mapped_column(String(40))
    node: Mapped[str] = mapped_column(String(63))
    granted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class LeasedGpu(Table):
    """A GPU in a lease. The partial unique index is what makes "no GPU twice" true."""

    __tablename__ = "leased_gpus"
    __table_args__ = (
        Index("uq_leased_gpus_live", "gpu_uuid", unique=True, postgresql_where=text("released_at is null")),
    )

    lease_id: Mapped[str] = mapped_column(ForeignKey("leases.id"), primary_key=True)
    gpu_uuid: Mapped[str] = mapped_column(String(96), primary_key=True)
    released_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
