from datetime import datetime

from sqlalchemy import DateTime, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class WitnessKey(Table):
    """The key that a node made for itself, as its certificate told us."""

    __tablename__ = "witness_keys"

    node: Mapped[str] = mapped_column(String(63), primary_key=True)
    verifier_key: Mapped[str] = mapped_column(Text)
    registered_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class WitnessRefusal(Table):
    """What a node refused last, with both notes as evidence; over when it signs again."""

    __tablename__ = "witness_refusals"

    node: Mapped[str] = mapped_column(String(63), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    detail: Mapped[str] = mapped_column(Text)
    kept: Mapped[str] = mapped_column(Text)
    offered: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
