from collections.abc import Sequence

from sqlalchemy import select

from controlplane.domains.witness.tables import WitnessKey, WitnessRefusal
from controlplane.kit.tx import Tx


def add(tx: Tx, row: WitnessKey | WitnessRefusal) -> None:
    tx.session.add(row)


async def find_key(tx: Tx, node: str) -> WitnessKey | None:
    return await tx.session.get(WitnessKey, node, with_for_update=True)


async def find_refusal(tx: Tx, node: str) -> WitnessRefusal | None:
    return await tx.session.get(WitnessRefusal, node, with_for_update=True)


async def list_refusals(tx: Tx) -> Sequence[WitnessRefusal]:
    """Return what is refused now."""
    return (await tx.session.scalars(select(WitnessRefusal).where(WitnessRefusal.ended_at.is_(None)))).all()
