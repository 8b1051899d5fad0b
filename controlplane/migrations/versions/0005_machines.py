"""Join tokens, issued certificates, revocations."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "join_tokens",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("zone", sa.String(length=63), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_join_tokens_sha256")),
    )
    op.create_index(op.f("ix_join_tokens_node"), "join_tokens", ["node"], unique=False)
    op.create_table(
        "node_joins",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("token_id", sa.String(length=40), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("zone", sa.String(length=63), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("request_pem", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=45), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(length=120), nullable=False),
        sa.Column("certificate_pem", sa.Text(), nullable=False),
        sa.CheckConstraint("state in ('waiting', 'issued', 'refused')", name=op.f("ck_node_joins_state")),
        sa.ForeignKeyConstraint(["token_id"], ["join_tokens.id"], name=op.f("fk_node_joins_token_id_join_tokens")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node_joins")),
        sa.UniqueConstraint("token_id", name=op.f("uq_node_joins_token_id")),
    )
    op.create_index(op.f("ix_node_joins_node"), "node_joins", ["node"], unique=False)
    op.create_table(
        "issued_certificates",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("uri", sa.String(length=250), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_issued_certificates")),
    )
    op.create_index(op.f("ix_issued_certificates_node"), "issued_certificates", ["node"], unique=False)
    op.create_table(
        "node_revocations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_by", sa.String(length=120), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node_revocations")),
    )
    op.create_index(op.f("ix_node_revocations_node"), "node_revocations", ["node"], unique=False)
    op.create_index(
        "uq_node_revocations_open",
        "node_revocations",
        ["node"],
        unique=True,
        postgresql_where=sa.text("lifted_at is null"),
    )
    op.create_table(
        "seen_leaves",
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("node", "name", name=op.f("pk_seen_leaves")),
    )


def downgrade() -> None:
    for table in ("seen_leaves", "node_revocations", "issued_certificates", "node_joins", "join_tokens"):
        op.drop_table(table)
