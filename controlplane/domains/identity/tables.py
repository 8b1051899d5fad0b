from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.kit.tx import Table


class Principal(Table):
    """Who may act. Ids are random and never used again; a name is an attribute. `project` "" is the site itself."""

    __tablename__ = "principals"
    __table_args__ = (
        CheckConstraint("kind in ('user', 'service', 'key', 'node', 'agent', 'breakglass')", name="kind"),
        Index("uq_principals_kind_name", "kind", "name", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(12))
    name: Mapped[str] = mapped_column(String(120))
    project: Mapped[str] = mapped_column(String(63), default="")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    enrolled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class RoleGrant(Table):
    """A role over a time. A row is written once and ended once; duties that exclude each other are kept apart here.

    The migration adds what an index cannot say: an auditor holds nothing else, and a row never changes but to end.
    """

    __tablename__ = "role_grants"
    __table_args__ = (
        CheckConstraint("granted_by <> principal_id", name="not_to_oneself"),
        CheckConstraint(
            "role in ('platform-admin', 'security-admin', 'operator', 'data-steward', 'auditor', 'tenant-admin', "
            "'tenant-user', 'break-glass')",
            name="role",
        ),
        Index("uq_role_grants_live", "principal_id", "role", unique=True, postgresql_where=text("revoked_at is null")),
        Index(
            "uq_role_grants_one_admin_duty",
            "principal_id",
            unique=True,
            postgresql_where=text("revoked_at is null and role in ('platform-admin', 'security-admin')"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    role: Mapped[str] = mapped_column(String(40))
    granted_by: Mapped[str] = mapped_column(String(120))
    granted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_by: Mapped[str | None] = mapped_column(String(120))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Session(Table):
    """One sign-in, one family of tokens. `methods` is how it was proved, `strong_at` when with a second factor."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    client: Mapped[str] = mapped_column(String(120), index=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    methods: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    source: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    strong_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    idle_expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    absolute_expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_why: Mapped[str] = mapped_column(Text, default="")


class Token(Table):
    """Only the SHA-256 of the secret is here; 256 random bits need no slow hash. A refresh token is used once."""

    __tablename__ = "tokens"
    __table_args__ = (CheckConstraint("kind in ('access', 'refresh', 'cookie')", name="kind"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="cascade"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class EnrolmentCode(Table):
    """A code that lets one person in once. Showing it begins the enrolment, and its ticket ends it."""

    __tablename__ = "enrolment_codes"
    __table_args__ = (CheckConstraint("purpose in ('first', 'second', 'lost', 'user')", name="purpose"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(8))
    roles: Mapped[list[str]] = mapped_column(ARRAY(String(40)))
    principal_id: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(120))
    created_by: Mapped[str] = mapped_column(String(120))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ticket_sha256: Mapped[str | None] = mapped_column(String(64), unique=True)
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class BreakGlassShare(Table):
    """Half of what opens the glass, by its SHA-256. A custodian has one that counts, and it counts once."""

    __tablename__ = "break_glass_shares"
    __table_args__ = (
        Index(
            "uq_break_glass_shares_live",
            "holder_id",
            unique=True,
            postgresql_where=text("used_at is null and replaced_at is null"),
        ),
    )

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder_id: Mapped[str] = mapped_column(ForeignKey("principals.id"))
    made_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    replaced_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
