"""What may leave the audit log, and how: two functions of the owner's, each with its own rules."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

REFUSE_CHANGE = """
create or replace function public.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
  if tg_op = 'DELETE' and tg_table_name in ('audit_events', 'audit_personal')
     and current_setting('redoubt.purging', true) = 'on' then
    return old;
  end if;
  raise exception '% rows never change', tg_table_name;
end $$
"""
# Both run with the owner's rights: they name the schema of each table, and look last where a caller may have put one of
# its own. They check for themselves what their caller must not decide: an event that says so in this transaction, no
# legal hold, and for a purge an age of six months at least and a signature over all that goes.
CHECK_CALL = """
create function public.audit_check_call(p_event text, p_kind text) returns void
language plpgsql set search_path = pg_catalog, public, pg_temp as $$
begin
  if not exists (select from public.audit_events where event_id = p_event and event = p_kind
                 and xact = (pg_current_xact_id()::text)::bigint) then
    raise exception 'no event of this transaction tells of it' using errcode = '55000';
  end if;
  if exists (select from public.audit_holds h
             where not exists (select from public.audit_hold_ends e where e.hold_id = h.id)) then
    raise exception 'a legal hold is open' using errcode = '55000';
  end if;
end $$
"""
PURGE = """
create function public.audit_purge(p_before bigint, p_event text) returns integer
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare v_bodies integer;
begin
  perform public.audit_check_call(p_event, 'audit.purged');
  if p_before > coalesce((select max(size) from public.audit_checkpoints), 0) then
    raise exception 'what is not under a checkpoint is not purged' using errcode = '55000';
  end if;
  if exists (select from public.audit_events e join public.audit_leaves l using (seq)
             where l.leaf_index < p_before and e.at > now() - interval '6 months') then
    raise exception 'nothing younger than six months is purged' using errcode = '55000';
  end if;
  perform set_config('redoubt.purging', 'on', true);
  delete from public.audit_personal_keys k using public.audit_leaves l
  where l.event_id = k.event_id and l.leaf_index < p_before;
  delete from public.audit_personal p using public.audit_leaves l
  where l.event_id = p.event_id and l.leaf_index < p_before;
  delete from public.audit_events e using public.audit_leaves l where l.seq = e.seq and l.leaf_index < p_before;
  get diagnostics v_bodies = row_count;
  perform set_config('redoubt.purging', 'off', true);
  insert into public.audit_purges (event_id, before_leaf, bodies, purged_at)
  values (p_event, p_before, v_bodies, now());
  return v_bodies;
end $$
"""
ERASE = """
create function public.audit_erase(p_subject text, p_event text) returns integer
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare v_records integer;
begin
  perform public.audit_check_call(p_event, 'audit.erased');
  delete from public.audit_personal_keys k using public.audit_personal p
  where p.event_id = k.event_id and (p.subject = p_subject or p.about = p_subject) and p.event_id <> p_event;
  get diagnostics v_records = row_count;
  return v_records;
end $$
"""


def upgrade() -> None:
    op.add_column("audit_personal", sa.Column("about", sa.String(length=200), nullable=False, server_default=""))
    op.alter_column("audit_personal", "about", server_default=None)
    op.create_index(op.f("ix_audit_personal_about"), "audit_personal", ["about"])
    op.execute(REFUSE_CHANGE)
    op.execute(CHECK_CALL)
    op.execute(PURGE)
    op.execute(ERASE)


def downgrade() -> None:
    """Refuse: a site goes back by restoring its backup, never by dropping what it recorded."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
