from datetime import datetime
from typing import Any  # JSON values have no narrower type

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Identity, Index, Integer, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class PolicySet(Table):
    """One version of the site's policies with the examples that it keeps; a row never changes."""

    __tablename__ = "policy_sets"

    version: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))  # of policies and examples
    policies: Mapped[str] = mapped_column(Text)
    examples: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    note: Mapped[str] = mapped_column(String(400))
    proposed_by: Mapped[str] = mapped_column(String(40))
    proposed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class PolicyPublication(Table):
    """A version that came into force; the highest number is in force now. No version is the set that is shipped.

    Two people and an approval make one; only the way back to the shipped set is open to root on the node alone.
    """

    __tablename__ = "policy_publications"
    __table_args__ = (
        CheckConstraint("proposed_by <> approved_by", name="two_people"),
        CheckConstraint("approval_id is not null or version is null", name="approved"),
    )

    number: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    version: Mapped[int | None] = mapped_column(ForeignKey("policy_sets.version"))
    approval_id: Mapped[str | None] = mapped_column(ForeignKey("approvals.id"), unique=True)
    proposed_by: Mapped[str] = mapped_column(String(40))
    approved_by: Mapped[str] = mapped_column(String(40))
    published_by: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    replayed: Mapped[int] = mapped_column(Integer)
    flipped: Mapped[int] = mapped_column(Integer)


class PolicyDecision(Table):
    """A question as data and its answer. `times` counts the same again that was not written one by one."""

    __tablename__ = "policy_decisions"

    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    policy_digest: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(8))
    times: Mapped[int] = mapped_column(Integer)
    question: Mapped[dict[str, Any]] = mapped_column(JSONB)
    why: Mapped[dict[str, Any]] = mapped_column(JSONB)


class Approval(Table):
    """What one person wants to do and a second one lets it happen, once. The subject is bound by its digest."""

    __tablename__ = "approvals"
    __table_args__ = (
        CheckConstraint("approved_by <> proposed_by", name="two_people"),
        CheckConstraint("(approved_by is null) = (approved_at is null)", name="approved"),
        CheckConstraint("approved_by is null or refused_by is null", name="one_decision"),
        CheckConstraint("spent_at is null or approved_by is not null", name="spent_if_approved"),
        Index("ix_approvals_proposed_at", "proposed_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    action: Mapped[str] = mapped_column(String(80))
    subject: Mapped[dict[str, Any]] = mapped_column(JSONB)
    subject_sha256: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(400))
    proposed_by: Mapped[str] = mapped_column(String(40))
    proposed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    approved_by: Mapped[str | None] = mapped_column(String(40))
    approved_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    refused_by: Mapped[str | None] = mapped_column(String(40))
    refused_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    spent_by: Mapped[str | None] = mapped_column(String(40))
    spent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
