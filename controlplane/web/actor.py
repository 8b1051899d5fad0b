"""Who asks: a person by session, a machine by certificate."""

from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.identity.service import enrolment, sessions
from controlplane.domains.pki import service as pki
from controlplane.kit.errors import Denied, Unauthenticated
from controlplane.kit.tx import Tx
from controlplane.web.limits import source_of
from controlplane.web.peer import Peer
from controlplane.web.transaction import Transaction

bearer = HTTPBearer(auto_error=False, description="an access token, rdt_…")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def authenticate_person(request: Request, tx: Transaction, credentials: Bearer) -> Actor:
    """Return the actor of a live session, with every role that it holds now."""
    await require_enrolled(request, tx)
    actor = await sessions.authenticate(tx, bearer_of(credentials), source=source_of(request.scope))
    request.state.actor = actor
    return actor


async def require_enrolled(request: Request, tx: Tx) -> None:
    """Raise NotReady until both administrators are there; then never again, so it is asked of the database once."""
    if not getattr(request.app.state, "is_enrolled", False):
        await enrolment.require_enrolled(tx)
        request.app.state.is_enrolled = True


async def authenticate_node(request: Request, tx: Transaction) -> tuple[Actor, Peer]:
    """Return the node that the client certificate names, if that certificate counts now."""
    peer = _peer_of(request)
    if peer.kind != "node":
        raise Denied(f"{peer.kind} {peer.name} is no node", remedy="use the node's own certificate")
    await pki.authenticate_leaf(tx, peer.leaf)
    return _machine(request, peer), peer


async def authenticate_machine(request: Request) -> tuple[Actor, Peer]:
    """Return whoever asks for its next certificate; what the present one is still worth, the verb decides."""
    peer = _peer_of(request)
    return _machine(request, peer), peer


async def authenticate_gateway(request: Request, tx: Transaction, credentials: Bearer) -> Actor:
    """Return the gateway: by certificate on a site, by the box's own token on loopback."""
    token: str | None = request.app.state.gateway_token
    if token is not None:
        if not compare_digest(bearer_of(credentials).encode(), token.encode()):
            raise Unauthenticated("not the gateway's token", remedy="start the gateway through `redoubt box`")
        return Actor("gateway", Role.GATEWAY)
    peer = _peer_of(request)
    if (peer.kind, peer.name) != ("service", "gateway"):
        raise Denied(f"{peer.kind} {peer.name} is no gateway", remedy="use the gateway's own certificate")
    await pki.authenticate_leaf(tx, peer.leaf)
    return _machine(request, peer)


def _machine(request: Request, peer: Peer) -> Actor:
    """Return the actor of a machine and leave it where a denial finds it."""
    role = Role.NODE if peer.kind == "node" else Role.GATEWAY if peer.name == "gateway" else Role.NEWCOMER
    actor = Actor(peer.name, role, session=peer.leaf.serial, method="certificate", source=source_of(request.scope))
    request.state.actor = actor
    return actor


def bearer_of(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise Unauthenticated("no key was sent", remedy="send `Authorization: Bearer …`")
    return credentials.credentials


def _peer_of(request: Request) -> Peer:
    peer = request.scope.get("extensions", {}).get("redoubt.peer", {}).get("peer")
    if not isinstance(peer, Peer) or peer.site != request.app.state.site:
        raise Unauthenticated(
            "no certificate of this site was shown", remedy="connect with a certificate of the site CA"
        )
    return peer


Person = Annotated[Actor, Depends(authenticate_person, scope="function")]
NodePeer = Annotated[tuple[Actor, Peer], Depends(authenticate_node, scope="function")]
MachinePeer = Annotated[tuple[Actor, Peer], Depends(authenticate_machine)]
Gateway = Annotated[Actor, Depends(authenticate_gateway, scope="function")]
