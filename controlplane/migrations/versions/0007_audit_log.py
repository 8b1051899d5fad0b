"""The audit log: entries in one byte form, their place in a tree, checkpoints, witnesses, what is personal."""

from typing import Any  # JSON values and rows of a table that is no more

import sqlalchemy as sa
from alembic import op

from controlplane.kit.canonical import canonical_json

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BATCH = 1000
OLD = "select seq, at, actor, role, event, resource, details from audit_events where seq > :seq order by seq limit :n"
NEW = "update audit_events set event_id = :event_id, body = :body, xact = 0 where seq = :seq"
# A purge may delete, and nothing may update; who may call the purge is a matter of rights.
REFUSE_CHANGE = """
create or replace function public.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
  if tg_op = 'DELETE' and tg_table_name = 'audit_events' and current_setting('redoubt.purging', true) = 'on' then
    return old;
  end if;
  raise exception '% rows never change', tg_table_name;
end $$
"""
NEVER_CHANGE = (
    "audit_personal", "audit_leaves", "audit_nodes", "audit_checkpoints", "audit_cosignatures", "audit_holds",
    "audit_hold_ends", "audit_purges",
)  # fmt: skip


def upgrade() -> None:
    _events()
    _personal()
    _tree()
    _retention()
    op.execute(REFUSE_CHANGE)
    for table in NEVER_CHANGE:
        op.execute(
            f"create trigger {table}_never_change before update or delete on {table} "
            "for each row execute function refuse_change()"
        )


def _events() -> None:
    op.add_column("audit_events", sa.Column("event_id", sa.String(length=40), nullable=True))
    op.add_column("audit_events", sa.Column("xact", sa.BigInteger(), nullable=True))
    op.add_column("audit_events", sa.Column("body", sa.Text(), nullable=True))
    op.execute("alter table audit_events disable trigger audit_events_never_change")
    _write_old_bodies()
    op.execute("alter table audit_events enable trigger audit_events_never_change")
    for column in ("event_id", "xact", "body"):
        op.alter_column("audit_events", column, nullable=False)
    op.alter_column("audit_events", "xact", server_default=sa.text("(pg_current_xact_id()::text)::bigint"))
    op.create_unique_constraint(op.f("uq_audit_events_event_id"), "audit_events", ["event_id"])
    op.create_index(op.f("ix_audit_events_xact"), "audit_events", ["xact"])
    op.create_index(op.f("ix_audit_events_at"), "audit_events", ["at"])


def _write_old_bodies() -> None:
    """Give the events of before the log an entry, so that they are sealed with the rest."""
    connection, seq = op.get_bind(), 0
    while rows := connection.execute(sa.text(OLD), {"seq": seq, "n": BATCH}).all():
        for row in rows:
            event_id = f"evt_old{row.seq:017d}"
            body = canonical_json(_old_entry(row, event_id)).decode()
            connection.execute(sa.text(NEW), {"seq": row.seq, "event_id": event_id, "body": body})
        seq = rows[-1].seq


def _old_entry(row: Any, event_id: str) -> dict[str, Any]:
    roles = {"id": row.actor, "role": row.role, "roles": [row.role], "project": "", "session": "", "method": ""}
    return {
        "v": 1, "event_id": event_id, "ts": row.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "node": "", "boot_id": "",
        "actor": roles, "source": "", "action": row.event, "object": row.resource,
        "decision": {"result": "", "policy": ""}, "request": "", "result": "", "approvals": [], "personal": "",
        "details": row.details,
    }  # fmt: skip


def _personal() -> None:
    op.create_table(
        "audit_personal",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_personal")),
    )
    op.create_index(op.f("ix_audit_personal_subject"), "audit_personal", ["subject"])
    op.create_table(
        "audit_personal_keys",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["audit_personal.event_id"], name=op.f("fk_audit_personal_keys_event_id_audit_personal")
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_personal_keys")),
    )


def _tree() -> None:
    op.create_table(
        "audit_leaves",
        sa.Column("leaf_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("leaf_index", name=op.f("pk_audit_leaves")),
        sa.UniqueConstraint("seq", name=op.f("uq_audit_leaves_seq")),
        sa.UniqueConstraint("event_id", name=op.f("uq_audit_leaves_event_id")),
    )
    op.create_table(
        "audit_nodes",
        sa.Column("level", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name=op.f("pk_audit_nodes")),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("signer", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_audit_checkpoints")),
    )
    op.create_table(
        "audit_cosignatures",
        sa.Column("witness", sa.String(length=120), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("verifier_key", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("witness", "size", name=op.f("pk_audit_cosignatures")),
    )


def _retention() -> None:
    op.create_table(
        "audit_holds",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("placed_by", sa.String(length=120), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_holds")),
    )
    op.create_table(
        "audit_hold_ends",
        sa.Column("hold_id", sa.String(length=40), nullable=False),
        sa.Column("ended_by", sa.String(length=120), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["hold_id"], ["audit_holds.id"], name=op.f("fk_audit_hold_ends_hold_id_audit_holds")),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_audit_hold_ends")),
    )
    op.create_table(
        "audit_purges",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("before_leaf", sa.BigInteger(), nullable=False),
        sa.Column("bodies", sa.Integer(), nullable=False),
        sa.Column("purged_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_purges")),
    )


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
