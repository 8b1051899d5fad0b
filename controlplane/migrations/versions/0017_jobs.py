"""Jobs: what was asked, each run and each of its starts, and what they wrote."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("share", sa.String(length=32), nullable=False),
        sa.Column("project", sa.String(length=32), nullable=False),
        sa.Column("pool", sa.String(length=20), nullable=False),
        sa.Column("made_by", sa.String(length=120), nullable=False),
        sa.Column("token", sa.String(length=100), nullable=True),
        sa.Column("ask_sha256", sa.String(length=64), nullable=False),
        sa.Column("command", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("environment", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("gpu_type", sa.String(length=40), nullable=False),
        sa.Column("gpu_memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("zone", sa.String(length=63), nullable=False),
        sa.Column("time_limit_s", sa.Integer(), nullable=False),
        sa.Column("array", sa.Text(), nullable=False),
        sa.Column("signal", sa.String(length=8), nullable=False),
        sa.Column("signal_before_s", sa.Integer(), nullable=False),
        sa.Column("requeues", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("over_quota", sa.Boolean(), nullable=False),
        sa.Column("nonce", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=15), nullable=False),
        sa.Column("stop_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("log_deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("gpus >= 0 and cpus > 0 and time_limit_s > 0", name=op.f("ck_jobs_sizes")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("number", name=op.f("uq_jobs_number")),
    )
    op.create_index("ix_jobs_live", "jobs", ["id"], unique=False, postgresql_where=sa.text("ended_at is null"))
    op.create_index(op.f("ix_jobs_project"), "jobs", ["project"], unique=False)
    op.create_index(
        "uq_jobs_share_token", "jobs", ["share", "token"], unique=True, postgresql_where=sa.text("token is not null")
    )
    op.create_table(
        "job_runs",
        sa.Column("id", sa.String(length=60), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("array_index", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=15), nullable=False),
        sa.Column("stamp", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("engine_ref", sa.String(length=80), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stop_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_runs_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_runs")),
    )
    op.create_index(op.f("ix_job_runs_job_id"), "job_runs", ["job_id"], unique=False)
    op.create_index("ix_job_runs_live", "job_runs", ["id"], unique=False, postgresql_where=sa.text("ended_at is null"))
    op.create_table(
        "job_starts",
        sa.Column("run_id", sa.String(length=60), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("node", sa.String(length=63), nullable=False),
        sa.Column("gpu_uuids", postgresql.ARRAY(sa.String(length=96)), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.Column("said_status", sa.Integer(), nullable=True),
        sa.Column("next_part", sa.BigInteger(), nullable=False),
        sa.Column("is_log_over", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["job_runs.id"], name=op.f("fk_job_starts_run_id_job_runs")),
        sa.PrimaryKeyConstraint("run_id", "restarts", name=op.f("pk_job_starts")),
    )
    op.create_table(
        "job_output",
        sa.Column("run_id", sa.String(length=60), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.String(length=7), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id", "restarts"], ["job_starts.run_id", "job_starts.restarts"], name="fk_job_output_run_id_job_starts"
        ),
        sa.PrimaryKeyConstraint("run_id", "restarts", "sequence", name=op.f("pk_job_output")),
    )


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
