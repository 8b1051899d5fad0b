"""The authorization server: clients, codes, signing keys, consents; and what a session is for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _clients()
    _codes()
    _keys()
    op.add_column(
        "sessions",
        sa.Column("scopes", postgresql.ARRAY(sa.String(length=40)), nullable=False, server_default="{api}"),
    )
    op.alter_column("sessions", "scopes", server_default=None)
    op.create_index(op.f("ix_sessions_client"), "sessions", ["client"])


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")


def _clients() -> None:
    op.create_table(
        "oauth_clients",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("principal_id", sa.String(length=40), nullable=True),
        sa.Column("redirect_uris", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("post_logout_redirect_uris", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=True),
        sa.Column("public_keys", postgresql.JSONB(), nullable=False),
        sa.Column("certificate_uri", sa.String(length=300), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(kind = 'service') = (principal_id is not null)", name=op.f("ck_oauth_clients_service_has_principal")
        ),
        sa.CheckConstraint(
            "kind <> 'service' or cardinality(redirect_uris) = 0",
            name=op.f("ck_oauth_clients_service_redirects_nowhere"),
        ),
        sa.CheckConstraint("kind = 'web' or secret_sha256 is null", name=op.f("ck_oauth_clients_only_web_has_secret")),
        sa.CheckConstraint("kind in ('native', 'web', 'service')", name=op.f("ck_oauth_clients_kind")),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principals.id"], name=op.f("fk_oauth_clients_principal_id_principals")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_clients")),
        sa.UniqueConstraint("certificate_uri", name=op.f("uq_oauth_clients_certificate_uri")),
        sa.UniqueConstraint("name", name=op.f("uq_oauth_clients_name")),
    )
    op.create_index(op.f("ix_oauth_clients_principal_id"), "oauth_clients", ["principal_id"], unique=False)
    op.create_table(
        "oauth_consents",
        sa.Column("principal_id", sa.String(length=40), nullable=False),
        sa.Column("client_id", sa.String(length=40), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["oauth_clients.id"], name=op.f("fk_oauth_consents_client_id_oauth_clients")
        ),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principals.id"], name=op.f("fk_oauth_consents_principal_id_principals")
        ),
        sa.PrimaryKeyConstraint("principal_id", "client_id", name=op.f("pk_oauth_consents")),
    )


def _codes() -> None:
    op.create_table(
        "authorization_codes",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=40), nullable=False),
        sa.Column("principal_id", sa.String(length=40), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("nonce", sa.String(length=255), nullable=False),
        sa.Column("code_challenge", sa.String(length=43), nullable=False),
        sa.Column("methods", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("signed_in_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("session_id", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principals.id"], name=op.f("fk_authorization_codes_principal_id_principals")
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_authorization_codes")),
    )
    op.create_index(op.f("ix_authorization_codes_expires_at"), "authorization_codes", ["expires_at"], unique=False)
    op.create_index(op.f("ix_authorization_codes_principal_id"), "authorization_codes", ["principal_id"], unique=False)
    op.create_table(
        "device_codes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("user_code_sha256", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=40), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("host", sa.String(length=120), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("interval_s", sa.Integer(), nullable=False),
        sa.Column("last_polled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("approved", sa.Boolean(), nullable=True),
        sa.Column("principal_id", sa.String(length=40), nullable=True),
        sa.Column("methods", postgresql.ARRAY(sa.String(length=40)), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(decided_at is null) = (approved is null)", name=op.f("ck_device_codes_decided")),
        sa.CheckConstraint(
            "approved is not true or principal_id is not null", name=op.f("ck_device_codes_approved_by_somebody")
        ),
        sa.ForeignKeyConstraint(
            ["principal_id"], ["principals.id"], name=op.f("fk_device_codes_principal_id_principals")
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_device_codes")),
        sa.UniqueConstraint("id", name=op.f("uq_device_codes_id")),
        sa.UniqueConstraint("user_code_sha256", name=op.f("uq_device_codes_user_code_sha256")),
    )
    op.create_index(op.f("ix_device_codes_expires_at"), "device_codes", ["expires_at"], unique=False)
    op.create_index(op.f("ix_device_codes_principal_id"), "device_codes", ["principal_id"], unique=False)


def _keys() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.String(length=40), nullable=False),
        sa.Column("x", sa.String(length=43), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state in ('next', 'current', 'previous', 'retired')", name=op.f("ck_signing_keys_state")),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_index(
        "uq_signing_keys_live",
        "signing_keys",
        ["state"],
        unique=True,
        postgresql_where=sa.text("state in ('next', 'current')"),
    )
    op.create_table(
        "spent_assertions",
        sa.Column("client_id", sa.String(length=40), nullable=False),
        sa.Column("jti_sha256", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "jti_sha256", name=op.f("pk_spent_assertions")),
    )
    op.create_index(op.f("ix_spent_assertions_expires_at"), "spent_assertions", ["expires_at"], unique=False)
