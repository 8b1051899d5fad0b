"""Which cordoned GPUs nothing holds yet."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gpu_cordons", sa.Column("exposed", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
