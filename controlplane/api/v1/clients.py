"""Clients, services, devices that wait, and signing keys."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import admin, oauth
from controlplane.domains.audit.types import Role
from controlplane.domains.identity.service import services
from controlplane.domains.oauth.service import clients, devices, keys
from controlplane.domains.oauth.types import Client, ClientKind, DeviceRequest
from controlplane.web.actor import Person
from controlplane.web.browser import means_of
from controlplane.web.oidc.client import proof_of
from controlplane.web.oidc.run import issuer_of
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["oauth"])


@router.post("/clients", status_code=201, response_model=oauth.NewClient)
async def create_client(body: oauth.CreateClient, call: Posted) -> Response:
    """Register a client; a secret is in this answer and nowhere else."""
    ask = clients.ClientAsk(
        body.name,
        ClientKind(body.kind),
        frozenset(body.scopes),
        None,
        body.redirect_uris,
        body.post_logout_redirect_uris,
        _jwk(body.public_key),
    )
    made = await clients.create_client(call.tx, call.actor, ask=ask)
    return call.created(oauth.NewClient(client=to_client(made.client), secret=made.secret), secret=True)


@router.get("/clients")
async def list_clients(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[oauth.Client]:
    return rows(page, await clients.list_clients(tx, actor, page=page), to_client, lambda client: client.id)


@router.get("/clients/{client_id}")
async def get_client(client_id: str, tx: Transaction, actor: Person) -> oauth.Client:
    return to_client(await clients.get_client(tx, actor, client_id=client_id))


@router.delete("/clients/{client_id}")
async def disable_client(client_id: str, tx: Transaction, actor: Person) -> oauth.Client:
    """End a client and every session that it was given."""
    return to_client(await clients.disable_client(tx, actor, client_id=client_id))


@router.post("/clients/{client_id}/rotations", status_code=201, response_model=oauth.NewClient)
async def rotate_client(client_id: str, body: oauth.RotateClient, call: Posted) -> Response:
    """Give a client a new secret, or take its new public key beside the one before."""
    made = await clients.rotate_client(call.tx, call.actor, client_id=client_id, public_key=_jwk(body.public_key))
    return call.created(oauth.NewClient(client=to_client(made.client), secret=made.secret), secret=True)


@router.post("/services", status_code=201, response_model=oauth.Client)
async def create_service(body: oauth.CreateService, call: Posted) -> Response:
    """Make a service's principal with its roles, and the client by which it signs in."""
    roles = tuple(Role(role) for role in body.roles)
    made = await services.create_service(call.tx, call.actor, name=body.name, project=body.project, roles=roles)
    ask = clients.ClientAsk(
        body.name,
        ClientKind.SERVICE,
        frozenset(body.scopes),
        made.id,
        public_key=_jwk(body.public_key),
        certificate_uri=body.certificate_uri,
    )
    return call.created(to_client((await clients.create_client(call.tx, call.actor, ask=ask)).client))


@router.post("/device-requests")
async def look_at_device(
    body: oauth.LookAtDevice, request: Request, tx: Transaction, actor: Person
) -> oauth.WaitingDevice:
    """Say who waits under a code; a wrong one counts as a guess."""
    return to_device(await devices.get_device_request(tx, actor, means_of(request), user_code=body.user_code))


@router.post("/device-decisions")
async def decide_device(
    body: oauth.DecideDevice, request: Request, tx: Transaction, actor: Person
) -> oauth.WaitingDevice:
    """Sign a device in as oneself, after a second factor shown lately; or deny it."""
    decided = await devices.decide_device(tx, actor, means_of(request), user_code=body.user_code, approve=body.approve)
    return to_device(decided)


@router.post("/signing-keys/rotations")
async def rotate_keys(body: oauth.RotateKeys, request: Request, tx: Transaction, actor: Person) -> oauth.SigningKeys:
    """Sign with the next key from now on."""
    root = issuer_of(request).keys
    current = await keys.rotate_signing_keys(tx, actor, root=root, emergency=body.emergency)
    published = tuple(oauth.SigningKey(kid=jwk["kid"], x=jwk["x"]) for jwk in await keys.publish_keys(tx))
    return oauth.SigningKeys(current=current, published=published)


def to_client(client: Client) -> oauth.Client:
    return oauth.Client(
        id=client.id,
        name=client.name,
        kind=client.kind,
        proof=proof_of(client),
        scopes=tuple(sorted(client.scopes)),
        redirect_uris=client.redirect_uris,
        post_logout_redirect_uris=client.post_logout_redirect_uris,
        principal_id=client.principal_id,
        certificate_uri=client.certificate_uri,
        key_ids=tuple(jwk.get("kid", "") for jwk in client.public_keys),
        created_at=client.created_at,
        disabled_at=client.disabled_at,
    )


def to_device(request: DeviceRequest) -> oauth.WaitingDevice:
    return oauth.WaitingDevice(
        id=request.id,
        client=request.client_name,
        source=request.source,
        host=request.host,
        scopes=tuple(sorted(request.scopes)),
        created_at=request.created_at,
        expires_at=request.expires_at,
    )


def _jwk(key: oauth.PublicKey | None) -> dict[str, str] | None:
    return None if key is None else key.model_dump()
