from datetime import datetime

from sqlalchemy import BigInteger, DateTime, String
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
