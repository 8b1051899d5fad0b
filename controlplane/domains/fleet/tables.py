from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, Integer, SmallInteger, String, false
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class NodeDeclaration(Table):
    """What the site spec says. Observations never write here."""

    __tablename__ = "node_declarations"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    address: Mapped[str] = mapped_column(String(45), unique=True)
    zone: Mapped[str] = mapped_column(String(63))
    purposes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    gpus: Mapped[list[dict[str, object]]] = mapped_column(JSONB)
    declared_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ZoneDeclaration(Table):
    """What the site spec says of a zone."""

    __tablename__ = "zone_declarations"
    __table_args__ = (CheckConstraint("clearance between 0 and 3", name="clearance"),)

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    jurisdiction: Mapped[str] = mapped_column(String(2))
    clearance: Mapped[int] = mapped_column(SmallInteger)


class NodeObservation(Table):
    """The newest report of a node's agent. Declarations never write here."""

    __tablename__ = "node_observations"

    node: Mapped[str] = mapped_column(String(63), primary_key=True)
    zone: Mapped[str] = mapped_column(String(63))
    boot_id: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(BigInteger)
    observed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    driver: Mapped[str] = mapped_column(String(40))
    host: Mapped[dict[str, object]] = mapped_column(JSONB)


class GpuObservation(Table):
    __tablename__ = "gpu_observations"

    uuid: Mapped[str] = mapped_column(String(96), primary_key=True)
    node: Mapped[str] = mapped_column(String(63), index=True)
    position: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(96))
    memory_total_bytes: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(12))
    minor: Mapped[int | None] = mapped_column(Integer)
    nvlink_island: Mapped[int | None] = mapped_column(Integer)
    numa_node: Mapped[int | None] = mapped_column(Integer)
    vbios: Mapped[str] = mapped_column(String(40), server_default="")
    mig: Mapped[list[str] | None] = mapped_column(ARRAY(String(40)))
    reading: Mapped[dict[str, object]] = mapped_column(JSONB)
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class CordonedGpu(Table):
    """A GPU that takes no new work. Ending it deletes the row; what was is in the audit log."""

    __tablename__ = "gpu_cordons"

    uuid: Mapped[str] = mapped_column(String(96), primary_key=True)
    reason: Mapped[str] = mapped_column(String(400))
    owner: Mapped[str] = mapped_column(String(80))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    exposed: Mapped[bool] = mapped_column(Boolean, server_default=false())
