from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class JoinToken(Table):
    """Lets one key in as one declared node. Only the SHA-256 of the secret is here."""

    __tablename__ = "join_tokens"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    node: Mapped[str] = mapped_column(String(63), index=True)
    zone: Mapped[str] = mapped_column(String(63))
    address: Mapped[str] = mapped_column(String(45))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    created_by: Mapped[str] = mapped_column(String(120))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class NodeJoin(Table):
    """A machine that spent a token, with the key it wants a leaf for."""

    __tablename__ = "node_joins"
    __table_args__ = (CheckConstraint("state in ('waiting', 'issued', 'refused')", name="state"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    token_id: Mapped[str] = mapped_column(ForeignKey("join_tokens.id"), unique=True)
    node: Mapped[str] = mapped_column(String(63), index=True)
    zone: Mapped[str] = mapped_column(String(63))
    address: Mapped[str] = mapped_column(String(45))
    fingerprint: Mapped[str] = mapped_column(String(64))
    request_pem: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(45))
    asked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    state: Mapped[str] = mapped_column(String(12))
    decided_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    decided_by: Mapped[str] = mapped_column(String(120), default="")
    certificate_pem: Mapped[str] = mapped_column(Text, default="")


class IssuedCertificate(Table):
    """Every leaf that the site's issuing authority signed for a running site."""

    __tablename__ = "issued_certificates"

    serial: Mapped[str] = mapped_column(String(40), primary_key=True)
    node: Mapped[str] = mapped_column(String(63), index=True)
    uri: Mapped[str] = mapped_column(String(250))
    fingerprint: Mapped[str] = mapped_column(String(64))
    cause: Mapped[str] = mapped_column(String(16))
    not_before: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    not_after: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Revocation(Table):
    """A node whose leaves count no more: until it joins again, and then still those from before it."""

    __tablename__ = "node_revocations"
    __table_args__ = (
        Index("uq_node_revocations_open", "node", unique=True, postgresql_where=text("lifted_at is null")),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    node: Mapped[str] = mapped_column(String(63), index=True)
    reason: Mapped[str] = mapped_column(String(400))
    revoked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_by: Mapped[str] = mapped_column(String(120))
    lifted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class SeenLeaf(Table):
    """The leaf that lies on a node now under a name, as its agent tells."""

    __tablename__ = "seen_leaves"

    node: Mapped[str] = mapped_column(String(63), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    serial: Mapped[str] = mapped_column(String(40))
    not_before: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    not_after: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
