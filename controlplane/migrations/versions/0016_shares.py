"""Shares of the site, quotas, pools and reservations; leases know whose they are and when they end."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# what every site has; tests put it back after they emptied a database
SEED = (
    "insert into shares (name, kind, parent, weight, created_at) values ('site', 'organisation', null, 1, now())",
    "insert into shares (name, kind, parent, weight, created_at) values ('redoubt', 'project', 'site', 1, now())",
    """insert into pools (name, max_gpus, max_time_s, grace_s, priority, over_priority, project_most) values
       ('inference', '{}', 604800, 30, 1000, 800, null), ('interactive', '{}', 43200, 30, 600, 500, null),
       ('training', '{}', 604800, 60, 400, 200, null), ('spare', '{}', 604800, 30, 0, 0, null)""",
)


def upgrade() -> None:
    _shares()
    _pools()
    _leases()
    _endpoints()
    for statement in SEED:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")


def _shares() -> None:
    op.create_table(
        "shares",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("parent", sa.String(length=32), nullable=True),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('organisation', 'project', 'team')", name=op.f("ck_shares_kind")),
        sa.CheckConstraint("(parent is null) = (kind = 'organisation')", name=op.f("ck_shares_parent")),
        sa.CheckConstraint("slot is null or kind = 'project'", name=op.f("ck_shares_slot")),
        sa.CheckConstraint("weight > 0", name=op.f("ck_shares_weight")),
        sa.ForeignKeyConstraint(["parent"], ["shares.name"], name=op.f("fk_shares_parent_shares")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_shares")),
        sa.UniqueConstraint("slot", name=op.f("uq_shares_slot")),
    )
    op.create_table(
        "share_quotas",
        sa.Column("share", sa.String(length=32), nullable=False),
        sa.Column("gpu_type", sa.String(length=40), nullable=False),
        sa.Column("guaranteed", sa.Integer(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("0 <= guaranteed and guaranteed <= most", name=op.f("ck_share_quotas_order")),
        sa.ForeignKeyConstraint(["share"], ["shares.name"], name=op.f("fk_share_quotas_share_shares")),
        sa.PrimaryKeyConstraint("share", "gpu_type", name=op.f("pk_share_quotas")),
    )


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("name", sa.String(length=20), nullable=False),
        sa.Column("max_gpus", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("max_time_s", sa.Integer(), nullable=False),
        sa.Column("grace_s", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("over_priority", sa.Integer(), nullable=False),
        sa.Column("project_most", sa.Integer(), nullable=True),
        sa.CheckConstraint("max_time_s > 0 and grace_s >= 0", name=op.f("ck_pools_times")),
        sa.CheckConstraint("over_priority <= priority", name=op.f("ck_pools_priorities")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pools")),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("nodes", postgresql.ARRAY(sa.String(length=63)), nullable=False),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("accounts", postgresql.ARRAY(sa.String(length=32)), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_by", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('maintenance', 'guaranteed', 'spare')", name=op.f("ck_reservations_kind")),
        sa.CheckConstraint("ends_at is null or ends_at > starts_at", name=op.f("ck_reservations_times")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    op.create_index(
        "uq_reservations_live_name",
        "reservations",
        ["name"],
        unique=True,
        postgresql_where=sa.text("deleted_at is null"),
    )


def _leases() -> None:
    """Leases that stand are the platform's own endpoints' and go on without an end, as they were granted."""
    for column, kind, before in (
        ("share", sa.String(length=32), "redoubt"),
        ("pool", sa.String(length=20), "inference"),
        ("over_quota", sa.Boolean(), "false"),
        ("preemptible", sa.Boolean(), "false"),
        ("end_reason", sa.Text(), ""),
    ):
        op.add_column("leases", sa.Column(column, kind, nullable=False, server_default=before))
        op.alter_column("leases", column, server_default=None)
    op.add_column("leases", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_leases_live_expires_at", "leases", ["expires_at"], postgresql_where=sa.text("ended_at is null"))


def _endpoints() -> None:
    """Endpoints that stand are the platform's own, and none of their replicas may be preempted."""
    op.add_column("endpoints", sa.Column("project", sa.String(length=32), nullable=False, server_default="redoubt"))
    op.alter_column("endpoints", "project", server_default=None)
    op.add_column("endpoints", sa.Column("floor", sa.Integer(), nullable=True))
    op.create_check_constraint(op.f("ck_endpoints_floor"), "endpoints", "floor >= 0")
    op.add_column("replicas", sa.Column("yields", sa.Boolean(), nullable=False, server_default="false"))
    op.alter_column("replicas", "yields", server_default=None)
    op.add_column("replicas", sa.Column("time_limit_s", sa.Integer(), nullable=False, server_default="604800"))
    op.alter_column("replicas", "time_limit_s", server_default=None)
