"""What nodes as witnesses ask and say, and what auditors see of it."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.contracts import witness as shapes
from controlplane.domains.audit import service as audit
from controlplane.domains.witness import service as witness
from controlplane.web.actor import NodePeer, Person
from controlplane.web.transaction import Transaction

machines = APIRouter(tags=["witness"])
people = APIRouter(tags=["witness"])


@machines.get("/agent/checkpoint")
async def offer(peer: NodePeer, tx: Transaction, after: Annotated[int, Query(ge=0, le=2**62)] = 0) -> shapes.Offer:
    """Return the newest checkpoint and the proof that it goes on from the one of `after` leaves."""
    found = await witness.offer_checkpoint(tx, peer[0], after=after)
    note = await audit.sign_note(tx, found.checkpoint)
    return shapes.Offer(note=note, log_key=found.checkpoint.signer, hashes=found.hashes)


@machines.post("/agent/cosignatures", status_code=204)
async def cosign(body: shapes.Cosign, peer: NodePeer, tx: Transaction) -> None:
    """Take a witness's signature."""
    await witness.take_cosignature(tx, peer[0], signed=body)


@machines.post("/agent/witness-refusals", status_code=204)
async def refuse(body: shapes.Refuse, peer: NodePeer, tx: Transaction) -> None:
    """Take a witness's no, with its evidence."""
    await witness.take_refusal(tx, peer[0], refused=body)


@people.get("/witnesses")
async def list_witnesses(tx: Transaction, actor: Person) -> shapes.Witnesses:
    """Return how many of the site's nodes vouch for the log, and what each last said."""
    found = await witness.get_quorum(tx, actor)
    nodes = tuple(
        shapes.WitnessStanding(
            node=one.node, size=one.size, at=one.at, is_fresh=one.node in found.fresh, refusal=one.refusal
        )
        for one in found.standings
    )
    return shapes.Witnesses(fresh=len(found.fresh), declared=len(nodes), needed=found.needed, nodes=nodes)
