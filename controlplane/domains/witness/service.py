"""Nodes as witnesses of the audit log: what they are offered, what they sign, what they refuse."""

from dataclasses import dataclass

from controlplane.contracts.witness import Cosign, Refuse
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.tables import AuditCheckpoint
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import service as fleet
from controlplane.domains.policy import service as policy
from controlplane.domains.witness import rules, store
from controlplane.domains.witness.tables import WitnessKey, WitnessRefusal
from controlplane.domains.witness.types import Quorum, Standing
from controlplane.kit.errors import Conflict
from controlplane.kit.note import WITNESS_KEY, BadNote, parse_key
from controlplane.kit.tx import Tx


@dataclass(frozen=True)
class Offered:
    """The newest checkpoint and the proof from the size that a witness keeps; no hashes where there is no way."""

    checkpoint: AuditCheckpoint
    hashes: tuple[str, ...]


async def offer_checkpoint(tx: Tx, actor: Actor, *, after: int) -> Offered:
    """Return what a witness that keeps `after` leaves must see. Raises NotFound before the first checkpoint."""
    await policy.require(tx, actor, "checkpoint.read", "site")
    newest = await audit.get_checkpoint(tx)
    if not 0 < after < newest.size:
        return Offered(newest, ())
    return Offered(newest, tuple(await audit.prove_consistency(tx, first=after, second=newest.size)))


async def take_cosignature(tx: Tx, actor: Actor, *, signed: Cosign) -> None:
    """Keep a witness's signature under the key that its certificate brought; an open refusal of it is over.

    Raises Conflict for a key that is no witness's and for a signature that is not over our checkpoint.
    """
    await policy.require(tx, actor, "checkpoint.cosign", actor.id)
    await _register_key(tx, actor, signed.verifier_key)
    last = {row.witness: row.size for row in await audit.list_witnesses(tx)}.get(actor.id, 0)
    if last < signed.size:  # the same again is the answer to a lost answer
        await audit.add_cosignature(tx, actor, size=signed.size, verifier_key=signed.verifier_key, line=signed.line)
    refusal = await store.find_refusal(tx, actor.id)
    if refusal is not None and refusal.ended_at is None:
        refusal.ended_at = tx.now
        await audit.record(tx, actor, "witness.accepted", actor.id, size=signed.size)


async def take_refusal(tx: Tx, actor: Actor, *, refused: Refuse) -> None:
    """Keep what a witness refuses and why; each refusal that is new is an event, and an incident while it stands."""
    await policy.require(tx, actor, "checkpoint.refuse", actor.id)
    row = await store.find_refusal(tx, actor.id)
    if row is None:
        row = WitnessRefusal(node=actor.id, **refused.model_dump(), at=tx.now, ended_at=None)
        store.add(tx, row)
    elif row.ended_at is None and (row.kind, row.kept) == (refused.kind, refused.kept):
        return
    row.kind, row.detail, row.kept, row.offered = refused.kind, refused.detail, refused.kept, refused.offered
    row.at, row.ended_at = tx.now, None
    await audit.record(tx, actor, "witness.refused", actor.id, **refused.model_dump())


async def get_quorum(tx: Tx, actor: Actor) -> Quorum:
    await policy.require(tx, actor, "audit.read", "site")
    return await judge_witnesses(tx)


async def judge_witnesses(tx: Tx) -> Quorum:
    """Return k of n. For other domains."""
    signed = {row.witness: row for row in await audit.list_witnesses(tx)}
    refusals = {row.node: row for row in await store.list_refusals(tx)}
    standings = []
    for node in await fleet.declared_since(tx):
        row, refusal = signed.get(node), refusals.get(node)
        said = f"{refusal.kind}: {refusal.detail}" if refusal else ""
        at = refusal.at if refusal else None
        standings.append(Standing(node, row.size if row else 0, row.at if row else None, said, at))
    due = await audit.find_checkpoint_before(tx, tx.now - rules.FRESH_WITHIN)
    return rules.quorum(standings, due.size if due else 0)


async def _register_key(tx: Tx, actor: Actor, verifier_key: str) -> None:
    try:
        if parse_key(verifier_key).kind != WITNESS_KEY or parse_key(verifier_key).name != actor.id:
            raise BadNote("not this node's witness key")
    except BadNote as error:
        raise Conflict(f"no key of witness {actor.id}: {error}", remedy="use the key that the agent made") from None
    known = await store.find_key(tx, actor.id)
    if known is None:
        store.add(tx, WitnessKey(node=actor.id, verifier_key=verifier_key, registered_at=tx.now))
        await audit.record(tx, actor, "witness.key_registered", actor.id, new=verifier_key)
    elif known.verifier_key != verifier_key:
        await audit.record(tx, actor, "witness.key_changed", actor.id, old=known.verifier_key, new=verifier_key)
        known.verifier_key, known.registered_at = verifier_key, tx.now
