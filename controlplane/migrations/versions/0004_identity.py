"""Principals with roles over time, sessions and their tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KINDS = "kind in ('user', 'service', 'key', 'node', 'agent', 'breakglass')"
ROLES = (
    "role in ('platform-admin', 'security-admin', 'operator', 'data-steward', 'auditor', 'tenant-admin', "
    "'tenant-user', 'break-glass')"
)
# The lock on the principal makes two grants to one person take turns; the query after it sees what the first one did.
GUARD_GRANTS = """
create function guard_role_grants() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    raise exception 'role_grants rows never go' using errcode = 'integrity_constraint_violation';
  end if;
  if tg_op = 'UPDATE' and (old.revoked_at is not null or new.revoked_at is null or
      (old.id, old.principal_id, old.role, old.granted_by, old.granted_at) is distinct from
      (new.id, new.principal_id, new.role, new.granted_by, new.granted_at)) then
    raise exception 'a grant changes once: when it ends' using errcode = 'integrity_constraint_violation';
  end if;
  if tg_op = 'INSERT' then
    perform 1 from principals where id = new.principal_id for update;
    if exists (select 1 from role_grants g where g.principal_id = new.principal_id and g.revoked_at is null
        and g.role <> new.role and 'auditor' in (g.role, new.role)) then
      raise exception 'an auditor holds no other role' using errcode = 'integrity_constraint_violation';
    end if;
  end if;
  return new;
end $$
"""


def upgrade() -> None:
    _principals()
    op.create_table(
        "role_grants",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("principal_id", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("granted_by", sa.String(length=120), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_by", sa.String(length=120), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("granted_by <> principal_id", name=op.f("ck_role_grants_not_to_oneself")),
        sa.CheckConstraint(ROLES, name=op.f("ck_role_grants_role")),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principals.id"], name=op.f("fk_role_grants_principal_id_principals")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_grants")),
    )
    op.create_index(op.f("ix_role_grants_principal_id"), "role_grants", ["principal_id"])
    op.create_index(
        "uq_role_grants_live",
        "role_grants",
        ["principal_id", "role"],
        unique=True,
        postgresql_where=sa.text("revoked_at is null"),
    )
    op.create_index(
        "uq_role_grants_one_admin_duty",
        "role_grants",
        ["principal_id"],
        unique=True,
        postgresql_where=sa.text("revoked_at is null and role in ('platform-admin', 'security-admin')"),
    )
    op.execute(GUARD_GRANTS)
    op.execute(
        "create trigger role_grants_guard before insert or update or delete on role_grants "
        "for each row execute function guard_role_grants()"
    )
    _sessions()
    _enrolment()
    op.drop_table("api_keys")  # people sign in; what applications had of it was carried over before


def _principals() -> None:
    op.add_column("principals", sa.Column("kind", sa.String(length=12), nullable=False, server_default="user"))
    op.alter_column("principals", "kind", server_default=None)
    op.add_column("principals", sa.Column("project", sa.String(length=63), nullable=False, server_default=""))
    op.alter_column("principals", "project", server_default=None)
    op.add_column("principals", sa.Column("enrolled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("principals", sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_column("principals", "role")
    op.drop_constraint(op.f("uq_principals_name"), "principals", type_="unique")
    op.create_index("uq_principals_kind_name", "principals", ["kind", "name"], unique=True)
    op.create_check_constraint(op.f("ck_principals_kind"), "principals", KINDS)


def _enrolment() -> None:
    op.drop_table("enrolment_codes")  # an old code would make an administrator without a second factor
    op.create_table(
        "enrolment_codes",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=8), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("principal_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ticket_sha256", sa.String(length=64), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("purpose in ('first', 'second', 'lost', 'user')", name=op.f("ck_enrolment_codes_purpose")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_enrolment_codes")),
        sa.UniqueConstraint("ticket_sha256", name=op.f("uq_enrolment_codes_ticket_sha256")),
    )
    op.create_table(
        "break_glass_shares",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("holder_id", sa.String(length=40), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["holder_id"], ["principals.id"], name=op.f("fk_break_glass_shares_holder_id_principals")
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_break_glass_shares")),
    )
    op.create_index(
        "uq_break_glass_shares_live",
        "break_glass_shares",
        ["holder_id"],
        unique=True,
        postgresql_where=sa.text("used_at is null and replaced_at is null"),
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("principal_id", sa.String(length=40), nullable=False),
        sa.Column("client", sa.String(length=120), nullable=False),
        sa.Column("methods", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("strong_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idle_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("absolute_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name=op.f("fk_sessions_principal_id_principals")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_principal_id"), "sessions", ["principal_id"])
    op.create_table(
        "tokens",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('access', 'refresh', 'cookie')", name=op.f("ck_tokens_kind")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_tokens_session_id_sessions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_session_id"), "tokens", ["session_id"])
    op.create_index(op.f("ix_tokens_expires_at"), "tokens", ["expires_at"])


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
