"""The scheduler as it was read, left and asked for, and what runs used of the GPUs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _add_scheduler()
    _add_usage()


def _add_scheduler() -> None:
    op.create_table(
        "scheduler_left",
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("thing", postgresql.JSONB(), nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_scheduler_left")),
    )
    op.create_table(
        "scheduler_seen",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("state", postgresql.JSONB(), nullable=False),
        sa.Column("hands", postgresql.JSONB(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failures", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scheduler_seen")),
    )
    op.create_table(
        "scheduler_asks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("asked_by", sa.String(length=80), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("takes_over", sa.Boolean(), nullable=False),
        sa.Column("over", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("failures", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scheduler_asks")),
    )
    op.create_index(
        "ix_scheduler_asks_open", "scheduler_asks", ["asked_at"], postgresql_where=sa.text("done_at is null")
    )


def _add_usage() -> None:
    op.create_table(
        "gpu_uses",
        sa.Column("ref", sa.String(length=120), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("account", sa.String(length=80), nullable=False),
        sa.Column("user", sa.String(length=80), nullable=False),
        sa.Column("partition", sa.String(length=80), nullable=False),
        sa.Column("gpu_type", sa.String(length=80), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("node", sa.String(length=200), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("state", sa.String(length=80), nullable=False),
        sa.CheckConstraint("gpus > 0", name=op.f("ck_gpu_uses_gpus")),
        sa.CheckConstraint("ended_at is null or ended_at >= started_at", name=op.f("ck_gpu_uses_times")),
        sa.PrimaryKeyConstraint("ref", "started_at", name=op.f("pk_gpu_uses")),
    )
    op.create_index("ix_gpu_uses_time", "gpu_uses", ["started_at", "ended_at"])
    op.create_index("ix_gpu_uses_open", "gpu_uses", ["started_at"], postgresql_where=sa.text("ended_at is null"))
    op.create_index(op.f("ix_gpu_uses_account"), "gpu_uses", ["account"])
    op.create_table(
        "usage_imports",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("known_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_imports")),
    )


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
