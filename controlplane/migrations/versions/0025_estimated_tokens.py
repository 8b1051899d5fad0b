"""Whether the tokens of a request were counted by the gateway, because no replica told them."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    no = sa.text("false")
    op.add_column("inference_requests", sa.Column("estimated", sa.Boolean(), server_default=no, nullable=False))
    op.alter_column("inference_requests", "estimated", server_default=None)


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
