"""Two roles: the owner makes and changes tables, the service works with them and may only add to the audit log."""

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from controlplane.kit.errors import Refused

OWNER = "redoubt_owner"
SERVICE = "redoubt"
# What the service may insert and select, and nothing more. A purge and an erasure are functions of the owner's.
ADD_ONLY = (
    "audit_events", "audit_personal", "audit_personal_keys", "audit_leaves", "audit_nodes", "audit_checkpoints",
    "audit_cosignatures", "audit_holds", "audit_hold_ends", "audit_purges",
)  # fmt: skip
FUNCTIONS = ("audit_purge(bigint, text)", "audit_erase(text, text)")

# Who may make temporary tables may put one in the place of a table that a function of the owner's works with.
NO_TEMPORARY = """
do $$ begin
  execute format('revoke temporary on database %I from public, redoubt', current_database());
end $$
"""
MAKE_ROLES = """
do $$ declare found record; begin
  if not exists (select from pg_roles where rolname = 'redoubt_owner') then create role redoubt_owner login; end if;
  if not exists (select from pg_roles where rolname = 'redoubt') then create role redoubt login; end if;
  execute format('alter database %I owner to redoubt_owner', current_database());
  for found in
    select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relkind in ('r', 'p') and pg_get_userbyid(c.relowner) <> 'redoubt_owner'
  loop execute format('alter table public.%I owner to redoubt_owner', found.relname); end loop;
  if to_regprocedure('refuse_change()') is not null then alter function refuse_change() owner to redoubt_owner; end if;
end $$
"""


def as_role(server_url: str, role: str) -> str:
    """Return the SQLAlchemy URL of an embedded server for one of the two roles."""
    return (
        make_url(server_url).set(drivername="postgresql+asyncpg", username=role).render_as_string(hide_password=False)
    )


def make_roles(connection: Connection) -> None:
    """Make both roles on an embedded server and give the owner what is there; the connection is the superuser's."""
    with connection.begin():
        connection.execute(text(MAKE_ROLES))


def grant_rights(connection: Connection) -> None:
    """Give the service its rights, on tables of this version and of no other; where there is no service role, none."""
    if connection.scalar(text("select current_user")) == SERVICE:
        raise Refused("the service may not change its tables", remedy=f"run migrations as {OWNER}", code="not_owner")
    if not connection.scalar(text("select 1 from pg_roles where rolname = :role"), {"role": SERVICE}):
        return
    connection.execute(text(NO_TEMPORARY))
    connection.execute(text(f"grant usage on schema public to {SERVICE}"))
    connection.execute(text(f"grant select, insert, update, delete on all tables in schema public to {SERVICE}"))
    connection.execute(text(f"grant usage on all sequences in schema public to {SERVICE}"))
    for table in (*ADD_ONLY, "alembic_version"):
        connection.execute(text(f"revoke all on {table} from {SERVICE}"))
        rights = "select" if table == "alembic_version" else "select, insert"
        connection.execute(text(f"grant {rights} on {table} to {SERVICE}"))
    for function in FUNCTIONS:
        connection.execute(text(f"revoke all on function {function} from public"))
        connection.execute(text(f"grant execute on function {function} to {SERVICE}"))
