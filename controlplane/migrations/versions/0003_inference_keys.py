"""Inference keys with bounds and two secrets; the old ones are carried over."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# An old key had endpoints and perhaps an end: it goes on for 90 days at most, for the one purpose that needs no header.
CARRY_KEYS = """
insert into inference_keys
    (id, name, project, made_by, endpoints, zones, purposes, classification, sources, created_at, revoked_at)
select id, name, '', principal_id, endpoints, '{}', '{general}', 1, '{}', created_at, revoked_at
from api_keys where kind = 'inference'
"""
CARRY_SECRETS = """
insert into inference_key_secrets (id, key_id, slot, sha256, created_at, expires_at, ended_at)
select 'secret_' || substr(md5(id), 1, 20), id, 1, sha256, now(),
       least(coalesce(expires_at, now() + interval '90 days'), now() + interval '365 days'), revoked_at
from api_keys where kind = 'inference'
"""


def upgrade() -> None:
    words = postgresql.ARRAY
    op.create_table(
        "inference_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("project", sa.String(length=63), nullable=False),
        sa.Column("made_by", sa.String(length=120), nullable=False),
        sa.Column("endpoints", words(sa.String(length=80)), nullable=False),
        sa.Column("zones", words(sa.String(length=63)), nullable=False),
        sa.Column("purposes", words(sa.String(length=40)), nullable=False),
        sa.Column("classification", sa.SmallInteger(), nullable=False),
        sa.Column("sources", words(sa.String(length=49)), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("classification between 0 and 3", name=op.f("ck_inference_keys_classification")),
        sa.CheckConstraint("cardinality(purposes) > 0", name=op.f("ck_inference_keys_purposes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inference_keys")),
    )
    op.create_index(op.f("ix_inference_keys_project"), "inference_keys", ["project"], unique=False)
    op.create_table(
        "inference_key_secrets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("slot in (1, 2)", name=op.f("ck_inference_key_secrets_slot")),
        sa.CheckConstraint(
            "expires_at <= created_at + interval '365 days'", name=op.f("ck_inference_key_secrets_lifetime")
        ),
        sa.ForeignKeyConstraint(
            ["key_id"], ["inference_keys.id"], name=op.f("fk_inference_key_secrets_key_id_inference_keys")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inference_key_secrets")),
        sa.UniqueConstraint("sha256", name=op.f("uq_inference_key_secrets_sha256")),
    )
    op.create_index(op.f("ix_inference_key_secrets_key_id"), "inference_key_secrets", ["key_id"], unique=False)
    op.create_index(
        "uq_inference_key_secrets_live",
        "inference_key_secrets",
        ["key_id", "slot"],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
    )
    op.execute(CARRY_KEYS)
    op.execute(CARRY_SECRETS)
    op.execute("delete from api_keys where kind = 'inference'")


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
