"""Budgets, their accounts, what gateways were allotted, and what was spent by their records."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _add_budgets()
    _add_allotments()
    op.create_table(
        "amounts_spent",
        sa.Column("account", sa.String(length=120), nullable=False),
        sa.Column("gateway", sa.String(length=120), nullable=False),
        sa.Column("boot", sa.String(length=32), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_amounts_spent_spent")),
        sa.PrimaryKeyConstraint("account", "gateway", "boot", name=op.f("pk_amounts_spent")),
    )


def _add_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=12), nullable=False),
        sa.Column("share", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("unit", sa.String(length=20), nullable=False),
        sa.Column("window", sa.String(length=8), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("exception", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("most >= 0 and exception >= 0", name=op.f("ck_budgets_amounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
    )
    op.create_index(op.f("ix_budgets_share"), "budgets", ["share"])
    op.create_index(
        "uq_budgets_live", "budgets", ["scope", "share", "name", "unit", "window"],
        unique=True, postgresql_where=sa.text("ended_at is null"),
    )  # fmt: skip


def _add_allotments() -> None:
    op.create_table(
        "budget_accounts",
        sa.Column("account", sa.String(length=120), nullable=False),
        sa.Column("budget_id", sa.String(length=40), nullable=False),
        sa.Column("short_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("short_boot", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["budget_id"], ["budgets.id"], name=op.f("fk_budget_accounts_budget_id_budgets")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_budget_accounts")),
    )
    op.create_index(op.f("ix_budget_accounts_budget_id"), "budget_accounts", ["budget_id"])
    op.create_table(
        "budget_holders",
        sa.Column("gateway", sa.String(length=120), nullable=False),
        sa.Column("boot", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("gateway", "boot", name=op.f("pk_budget_holders")),
    )
    op.create_table(
        "allotments",
        sa.Column("account", sa.String(length=120), nullable=False),
        sa.Column("gateway", sa.String(length=120), nullable=False),
        sa.Column("boot", sa.String(length=32), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("granted >= 0 and used >= 0", name=op.f("ck_allotments_amounts")),
        sa.ForeignKeyConstraint(
            ["account"], ["budget_accounts.account"], name=op.f("fk_allotments_account_budget_accounts")
        ),
        sa.PrimaryKeyConstraint("account", "gateway", "boot", name=op.f("pk_allotments")),
    )


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
