"""Which nodes the scheduler took for a reservation that asks for a number of them."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    empty = sa.text("'{}'")
    op.add_column("reservations", sa.Column("chosen", sa.ARRAY(sa.String(63)), server_default=empty, nullable=False))
    op.alter_column("reservations", "chosen", server_default=None)


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
