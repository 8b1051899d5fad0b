"""What is known of each GPU, and GPUs that take no new work."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gpu_observations", sa.Column("minor", sa.Integer(), nullable=True))
    op.add_column("gpu_observations", sa.Column("nvlink_island", sa.Integer(), nullable=True))
    op.add_column("gpu_observations", sa.Column("numa_node", sa.Integer(), nullable=True))
    op.add_column("gpu_observations", sa.Column("vbios", sa.String(length=40), server_default="", nullable=False))
    op.add_column("gpu_observations", sa.Column("mig", postgresql.ARRAY(sa.String(length=40)), nullable=True))
    op.create_table(
        "gpu_cordons",
        sa.Column("uuid", sa.String(length=96), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name=op.f("pk_gpu_cordons")),
    )


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
