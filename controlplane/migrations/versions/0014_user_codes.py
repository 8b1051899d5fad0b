"""How many codes of devices a session has guessed wrongly."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "wrong_user_codes",
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_wrong_user_codes")),
    )
    op.create_index(op.f("ix_wrong_user_codes_last_at"), "wrong_user_codes", ["last_at"], unique=False)


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
