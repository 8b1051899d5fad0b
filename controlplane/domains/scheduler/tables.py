from datetime import datetime
from typing import Any  # JSON of the scheduler port's own shapes, read by one adapter in the store

from sqlalchemy import Boolean, DateTime, Index, SmallInteger, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class LeftThing(Table):
    """An account, QOS or reservation as we last left it in the scheduler: what differs from it another hand did."""

    __tablename__ = "scheduler_left"

    kind: Mapped[str] = mapped_column(String(12), primary_key=True)
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    thing: Mapped[dict[str, Any]] = mapped_column(JSONB)
    left_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class SeenState(Table):
    """The scheduler as it was last read: one row. `error` says why it could not be read since, "" when it could."""

    __tablename__ = "scheduler_seen"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    state: Mapped[dict[str, Any]] = mapped_column(JSONB)
    hands: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    seen_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    error: Mapped[str] = mapped_column(Text)
    failures: Mapped[list[str]] = mapped_column(ARRAY(Text))


class ApplyAsk(Table):
    """Somebody asked to have the scheduler brought to what is wanted. `over` are the drifts that they saw and ended."""

    __tablename__ = "scheduler_asks"
    __table_args__ = (Index("ix_scheduler_asks_open", "asked_at", postgresql_where=text("done_at is null")),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    asked_by: Mapped[str] = mapped_column(String(80))
    asked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    takes_over: Mapped[bool] = mapped_column(Boolean)
    over: Mapped[list[str]] = mapped_column(ARRAY(Text))
    done_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    changes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    failures: Mapped[list[str]] = mapped_column(ARRAY(Text))
