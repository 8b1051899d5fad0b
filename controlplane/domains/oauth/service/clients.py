"""Clients: who may send people here to sign in, and which services sign in by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.service import tokens as identity
from controlplane.domains.oauth import rules, store
from controlplane.domains.oauth.tables import OauthClient
from controlplane.domains.oauth.types import CLI, Client, ClientKind, Scope
from controlplane.domains.policy import service as policy
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import BadInput, Conflict, NotFound
from controlplane.kit.ids import new_id
from controlplane.kit.jws import NotSigned, key_of_jwk
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

SECRET_PREFIX = "rdc"  # noqa: S105 - what every secret of a client starts with


@dataclass(frozen=True)
class ClientAsk:
    """What a new client is to be."""

    name: str
    kind: ClientKind
    scopes: frozenset[str] = field(default_factory=lambda: frozenset({Scope.OPENID, Scope.PROFILE}))
    principal_id: str | None = None
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    public_key: dict[str, str] | None = None
    certificate_uri: str | None = None


@dataclass(frozen=True)
class NewClient:
    """`secret` is shown this once; None for a client that proves itself by a key, a certificate, or not at all."""

    client: Client
    secret: str | None


async def create_client(tx: Tx, actor: Actor, *, ask: ClientAsk) -> NewClient:
    """Register a client. Raises BadInput for an address or a key that must not be registered."""
    await policy.require(tx, actor, "client.create", ask.name)
    _refuse(ask)
    if await store.find_client_named(tx, ask.name) is not None:
        raise Conflict(f"there is a client {ask.name} already", remedy="redoubt client list")
    secret = new_token(SECRET_PREFIX) if ask.kind == ClientKind.WEB and ask.public_key is None else None
    row = OauthClient(
        id=new_id("cli"),
        name=ask.name,
        kind=ask.kind,
        principal_id=ask.principal_id,
        redirect_uris=list(ask.redirect_uris),
        post_logout_redirect_uris=list(ask.post_logout_redirect_uris),
        scopes=sorted(ask.scopes),
        secret_sha256=None if secret is None else sha256_hex(secret.encode()),
        public_keys=[] if ask.public_key is None else [ask.public_key],
        certificate_uri=ask.certificate_uri,
        created_at=tx.now,
        disabled_at=None,
    )
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(tx, actor, "client.created", row.id, name=ask.name, kind=ask.kind, scopes=sorted(ask.scopes))
    return NewClient(to_client(row), secret)


async def disable_client(tx: Tx, actor: Actor, *, client_id: str) -> Client:
    """End a client and every session that it was given, at once. Doing it again changes nothing."""
    await policy.require(tx, actor, "client.disable", client_id)
    row = await _get(tx, client_id)
    if row.disabled_at is None:
        row.disabled_at = tx.now
        ended = await identity.end_sessions_of_client(tx, actor, client=client_id, why="the client was disabled")
        await audit.record(tx, actor, "client.disabled", client_id, sessions=ended)
    return to_client(row)


async def rotate_client(tx: Tx, actor: Actor, *, client_id: str, public_key: dict[str, str] | None) -> NewClient:
    """Give a client a new secret, or a new key beside the one before it, which then counts until the next rotation."""
    await policy.require(tx, actor, "client.rotate", client_id)
    row = await _get(tx, client_id)
    secret = None
    if row.secret_sha256 is not None:
        secret = new_token(SECRET_PREFIX)
        row.secret_sha256 = sha256_hex(secret.encode())
    elif public_key is not None and row.public_keys:
        _refuse_key(public_key)
        row.public_keys = [public_key, row.public_keys[0]]
    else:
        raise BadInput(
            "this client has no such secret or key", remedy="redoubt client show ID says how it proves itself"
        )
    await audit.record(tx, actor, "client.rotated", client_id, by="secret" if secret else "key")
    return NewClient(to_client(row), secret)


async def list_clients(tx: Tx, actor: Actor, *, page: Page) -> Sequence[Client]:
    await policy.require(tx, actor, "client.read", "site")
    return [to_client(row) for row in await store.list_clients(tx, page)]


async def get_client(tx: Tx, actor: Actor, *, client_id: str) -> Client:
    await policy.require(tx, actor, "client.read", client_id)
    return CLI if client_id == CLI.id else to_client(await _get(tx, client_id))


async def find_live_client(tx: Tx, client_id: str) -> Client | None:
    """Return a client that may be used now; the command line's own needs no row."""
    if client_id == CLI.id:
        return CLI
    row = await store.find_client(tx, client_id)
    return None if row is None or row.disabled_at is not None else to_client(row)


async def find_client_of_certificate(tx: Tx, uri: str) -> Client | None:
    row = await store.find_client_by_certificate(tx, uri)
    return None if row is None or row.disabled_at is not None else to_client(row)


def to_client(row: OauthClient) -> Client:
    return Client(
        row.id,
        row.name,
        ClientKind(row.kind),
        frozenset(row.scopes),
        row.principal_id,
        tuple(row.redirect_uris),
        tuple(row.post_logout_redirect_uris),
        row.secret_sha256,
        tuple(row.public_keys),
        row.certificate_uri,
        row.created_at,
        row.disabled_at,
    )


async def _get(tx: Tx, client_id: str) -> OauthClient:
    row = await store.find_client(tx, client_id)
    if row is None:
        raise NotFound(f"no client {client_id}", remedy="redoubt client list")
    return row


def _refuse(ask: ClientAsk) -> None:
    """Raise BadInput for what no client of this kind may be."""
    for uri in ask.redirect_uris + ask.post_logout_redirect_uris:
        if reason := rules.refuse_redirect_uri(ask.kind, uri):
            raise BadInput(
                f"{uri} cannot be registered: {reason}", remedy="give the exact address, with scheme and path"
            )
    if unknown := ask.scopes - frozenset(Scope):
        raise BadInput(f"no such scope: {', '.join(sorted(unknown))}", remedy=f"scopes are {', '.join(Scope)}")
    if reason := rules.refuse_shape(
        ask.kind, proofs=_proofs(ask), redirects=bool(ask.redirect_uris), scopes=ask.scopes
    ):
        raise BadInput(reason, remedy="redoubt client create --help; for a service: redoubt service create")
    if ask.public_key is not None:
        _refuse_key(ask.public_key)


def _proofs(ask: ClientAsk) -> int:
    return (ask.public_key is not None) + (ask.certificate_uri is not None)


def _refuse_key(jwk: dict[str, str]) -> None:
    try:
        key_of_jwk(jwk)
    except NotSigned as error:
        raise BadInput(f"the key is {error}", remedy="give the public half of an Ed25519 key as a JWK") from None
