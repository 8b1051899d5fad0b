from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.metering.tables import GatewaySpool
from controlplane.domains.metering.types import Place
from controlplane.kit.tx import Tx


async def find_or_add_spool(tx: Tx, gateway: str, boot: str) -> GatewaySpool:
    """Return the spool's row, locked: the same lines sent twice at once are taken once."""
    start = Place()
    row = {"next_seq": start.next_seq, "last_sha256": start.last_sha256, "first_at": tx.now, "last_at": tx.now}
    await tx.session.execute(insert(GatewaySpool).values(gateway=gateway, boot=boot, **row).on_conflict_do_nothing())
    mine = (GatewaySpool.gateway == gateway) & (GatewaySpool.boot == boot)
    return (await tx.session.scalars(select(GatewaySpool).where(mine).with_for_update())).one()
