"""What agents and gateways ask, over mutual TLS."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from controlplane.api.snapshot_watch import wait_for_newer
from controlplane.contracts import budgets as contracts
from controlplane.contracts.agent import NodeReport
from controlplane.contracts.snapshot import SignedSnapshot
from controlplane.contracts.spool import ShipSpool, SpoolTaken
from controlplane.domains.budgets import service as budgets
from controlplane.domains.budgets.types import Ask
from controlplane.domains.fleet import service as fleet
from controlplane.domains.health import service as health
from controlplane.domains.metering import service as metering
from controlplane.domains.pki import service as pki
from controlplane.domains.serving.service import snapshots
from controlplane.web.actor import Gateway, NodePeer
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["machines"])


@router.post("/agent/reports", status_code=204)
async def report(body: NodeReport, peer: NodePeer, tx: Transaction) -> None:
    """Take a node's newest reading; the node is who its certificate says."""
    actor, certificate = peer
    await fleet.record_report(tx, actor, zone=certificate.zone, report=body)
    if body.certificates is not None:
        await pki.record_leaves(tx, actor, leaves=body.certificates)
    if body.proof is not None:
        await health.record_proof(tx, actor, proof=body.proof, covers="node")
    if body.site_proof is not None:
        await health.record_proof(tx, actor, proof=body.site_proof, covers="site")


@router.get("/gateway/snapshot", response_model=SignedSnapshot, responses={204: {"description": "nothing newer"}})
async def snapshot(after: Annotated[int, Depends(wait_for_newer)], actor: Gateway, tx: Transaction) -> Response:
    """Return the newest signed snapshot, or 204 when version `after` is the newest, after `wait_s` at the latest."""
    newest = await snapshots.newest_snapshot(tx, actor, after=after)
    if newest is None:
        return Response(status_code=204)
    signed = SignedSnapshot(payload=newest.payload, signature=newest.signature)
    return Response(signed.model_dump_json(), media_type="application/json")


@router.post("/gateway/spool")
async def take_spool(body: ShipSpool, actor: Gateway, tx: Transaction) -> SpoolTaken:
    """Take lines of a gateway's spool into the audit log, each once; the answer says which line is wanted next."""
    return SpoolTaken(next_seq=await metering.take_spool(tx, actor, shipped=body))


@router.post("/gateway/allotments")
async def ask_allotments(body: contracts.AskAllotments, actor: Gateway, tx: Transaction) -> contracts.Allotments:
    """Say what one worker of a gateway may use of budgets in its whole life."""
    asks = [Ask(**one.model_dump()) for one in body.accounts]
    answers = await budgets.ask_allotments(tx, actor, boot=body.boot, number=body.number, asks=asks)
    return contracts.Allotments(
        accounts=tuple(
            contracts.Allotment(
                account=ask.account,
                granted=verdict.granted,
                left=verdict.left,
                elsewhere=verdict.elsewhere,
                at_best=verdict.at_best,
                recall=recall,
            )
            for ask, verdict, recall in answers
        )
    )
