"""Endpoints that let in their own project's keys alone."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("endpoints", sa.Column("exclusive", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.alter_column("endpoints", "exclusive", server_default=None)


def downgrade() -> None:
    op.drop_column("endpoints", "exclusive")
