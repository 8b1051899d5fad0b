"""Machines' certificates: join tokens, joins, renewals, revocations."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import pki as shapes
from controlplane.contracts.admin import Rows
from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.fleet import service as fleet
from controlplane.domains.pki import service as pki
from controlplane.domains.pki.service import Authority
from controlplane.domains.pki.tables import NodeJoin, Revocation, SeenLeaf
from controlplane.kit.errors import Unavailable
from controlplane.web.actor import MachinePeer, Person
from controlplane.web.limits import source_of
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["machines' certificates"])
machine_router = APIRouter(tags=["machines"])


@router.post("/nodes/{name}/join-tokens", status_code=201, response_model=shapes.NewJoinToken)
async def create_join_token(name: str, call: Posted) -> Response:
    """Make a token that lets one key in as this declared node; its secret is in this answer and nowhere else."""
    node = await fleet.find_declared(call.tx, name=name)
    made = await pki.create_join_token(call.tx, call.actor, node=node.name, zone=node.zone, address=node.address)
    row = made.token
    answer = shapes.NewJoinToken(
        id=row.id, token=made.secret, node=row.node, zone=row.zone, address=row.address, expires_at=row.expires_at
    )
    return call.created(answer, secret=True)


@router.post("/nodes/{name}/revocations", status_code=201, response_model=shapes.Revocation)
async def revoke_node(name: str, body: shapes.RevokeNode, call: Posted) -> Response:
    """Put a machine out at once; the machine API refuses it from this answer on."""
    return call.created(to_revocation(await pki.revoke_node(call.tx, call.actor, node=name, reason=body.reason)))


@router.get("/node-revocations")
async def list_revocations(tx: Transaction, actor: Person) -> Rows[shapes.Revocation]:
    return Rows(items=tuple(to_revocation(row) for row in await pki.list_revocations(tx, actor)))


@router.get("/node-certificates")
async def list_certificates(tx: Transaction, actor: Person) -> Rows[shapes.SeenLeaf]:
    """Return the certificates that lie on every node, as its agent last told."""
    return Rows(items=tuple(to_seen(row) for row in await pki.list_seen_leaves(tx, actor)))


@router.post("/node-joins", response_model=shapes.Joined, responses={202: {"description": "waits for approval"}})
async def join(body: shapes.AskJoin, request: Request, tx: Transaction) -> Response:
    """Spend a join token for the key of a request. Needs no credential but the token."""
    row = await pki.join(
        tx,
        NEWCOMER,
        authority_of(request),
        token=body.token,
        request_pem=body.request_pem,
        source=source_of(request.scope),
    )
    answer = shapes.Joined(
        id=row.id, state=row.state, node=row.node, zone=row.zone, fingerprint=row.fingerprint,
        certificate_pem=row.certificate_pem,
    )  # fmt: skip
    return Response(answer.model_dump_json(), 200 if row.certificate_pem else 202, media_type="application/json")


@router.get("/node-joins")
async def list_joins(
    tx: Transaction, actor: Person, page: Paged, state: Annotated[Literal["waiting", "all"], Query()] = "waiting"
) -> Rows[shapes.NodeJoin]:
    """Return joins with the fingerprint of their keys; those that wait unless all are asked for."""
    found = await pki.list_joins(tx, actor, page=page, only_waiting=state == "waiting")
    return rows(page, found, to_join, lambda row: row.id)


@router.post("/node-joins/{join_id}/approval", status_code=201, response_model=shapes.NodeJoin)
async def approve_join(join_id: str, body: shapes.ApproveJoin, request: Request, call: Posted) -> Response:
    row = await pki.approve_join(
        call.tx, call.actor, authority_of(request), join_id=join_id, fingerprint=body.fingerprint
    )
    return call.created(to_join(row))


@router.delete("/node-joins/{join_id}")
async def refuse_join(join_id: str, tx: Transaction, actor: Person) -> shapes.NodeJoin:
    return to_join(await pki.refuse_join(tx, actor, join_id=join_id))


@machine_router.post("/agent/certificates")
async def renew(body: shapes.AskLeaf, request: Request, peer: MachinePeer, tx: Transaction) -> shapes.RenewedLeaf:
    """Issue the successor of the certificate that this connection showed."""
    actor, shown = peer
    leaf = await pki.renew_leaf(tx, actor, authority_of(request), leaf=shown.leaf, request_pem=body.request_pem)
    return shapes.RenewedLeaf(certificate_pem=leaf.pem, not_after=leaf.certificate.not_valid_after_utc, now=tx.now)


def authority_of(request: Request) -> Authority:
    """Return what issues leaves here; raises Unavailable on a box, which has one machine and nobody to let in."""
    found = request.app.state.authority
    if not isinstance(found, Authority):
        raise Unavailable(
            "no authority here issues certificates", remedy="use a site; its api names [issuing]", code="no_issuer"
        )
    return found


def to_join(row: NodeJoin) -> shapes.NodeJoin:
    return shapes.NodeJoin(
        id=row.id, node=row.node, zone=row.zone, address=row.address, fingerprint=row.fingerprint, source=row.source,
        asked_at=row.asked_at, state=row.state, decided_at=row.decided_at, decided_by=row.decided_by,
    )  # fmt: skip


def to_revocation(row: Revocation) -> shapes.Revocation:
    return shapes.Revocation(
        node=row.node, reason=row.reason, revoked_at=row.revoked_at, revoked_by=row.revoked_by, lifted_at=row.lifted_at
    )


def to_seen(row: SeenLeaf) -> shapes.SeenLeaf:
    return shapes.SeenLeaf(
        node=row.node, name=row.name, serial=row.serial, not_before=row.not_before, not_after=row.not_after
    )
