"""A relying party, a device and a service, as a test plays them."""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from httpx._client import UseClientDefault

from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.service.services import create_service
from controlplane.domains.oauth.service import clients, codes, keys
from controlplane.domains.oauth.types import Client, ClientKind, CodeAsk, SignIn
from controlplane.kit.jws import encode, public_jwk, sign_jwt
from tests.support.control_plane import ControlPlane
from tests.support.means import ORIGIN

ISSUER = ORIGIN
CALLBACK = "https://app.example/cb"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class Party:
    """A registered client; `secret` or `key` is how it proves itself."""

    plane: ControlPlane
    client: Client
    secret: str | None = None
    key: Ed25519PrivateKey | None = None
    verifier: str = ""

    @property
    def auth(self) -> httpx.Auth | UseClientDefault:
        return httpx.BasicAuth(self.client.id, self.secret) if self.secret else httpx.USE_CLIENT_DEFAULT

    @property
    def fields(self) -> dict[str, str]:
        return {} if self.secret else {"client_id": self.client.id}

    async def code(self, access: str, *, scope: str = "openid profile", nonce: str = "") -> str:
        """Return a code that the holder of `access` granted; the consent page is another test's matter."""
        self.verifier = secrets.token_urlsafe(48)
        async with self.plane.database.transaction() as tx:
            actor = await sessions.authenticate(tx, access, source="browser")
            ask = CodeAsk(self.client.redirect_uris[0], frozenset(scope.split()), challenge_of(self.verifier), nonce)
            sign_in = SignIn(("password", "totp"), tx.now)
            return await codes.grant_code(tx, actor, client=self.client, ask=ask, sign_in=sign_in)

    async def redeem(self, code: str, /, **changed: str) -> httpx.Response:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.client.redirect_uris[0],
            "code_verifier": self.verifier,
        }
        return await self.post("/oauth/token", {**fields, **self.fields, **changed})

    async def refresh(self, secret: str) -> httpx.Response:
        return await self.post("/oauth/token", {"grant_type": "refresh_token", "refresh_token": secret, **self.fields})

    async def post(self, path: str, fields: dict[str, str], **more: Any) -> httpx.Response:
        async with site(self.plane) as client:
            return await client.post(path, data=fields, auth=self.auth, **more)

    def assertion(self, **changed: object) -> str:
        """Return a client assertion; `changed` claims replace the right ones, None leaves one out."""
        assert self.key is not None
        now = self.plane.clock.now().timestamp()
        claims = {
            "iss": self.client.id,
            "sub": self.client.id,
            "aud": ISSUER,
            "iat": int(now),
            "exp": int(now) + 60,
            "jti": secrets.token_hex(8),
            **changed,
        }
        return sign_jwt(self.key, "k1", {name: value for name, value in claims.items() if value is not None})

    async def sign_in(self, assertion: str, /, **changed: str) -> httpx.Response:
        fields = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        return await self.post("/oauth/token", {**fields, **changed})


async def web_party(plane: ControlPlane, *, scopes: str = "openid profile") -> Party:
    """Register a confidential web client."""
    made = await _create(plane, clients.ClientAsk("app", ClientKind.WEB, frozenset(scopes.split()), None, (CALLBACK,)))
    return Party(plane, made.client, made.secret)


async def native_party(plane: ControlPlane) -> Party:
    """Register a public client that listens on loopback."""
    ask = clients.ClientAsk("tool", ClientKind.NATIVE, redirect_uris=("http://127.0.0.1/cb",))
    return Party(plane, (await _create(plane, ask)).client)


async def service_party(plane: ControlPlane, *roles: Role, scopes: str = "api") -> Party:
    """Register a service with a key of its own."""
    key = Ed25519PrivateKey.generate()
    async with plane.database.transaction() as tx:
        principal = await create_service(tx, ADMIN(plane), name="backup", project="", roles=roles or (Role.OPERATOR,))
    ask = clients.ClientAsk(
        "backup",
        ClientKind.SERVICE,
        frozenset(scopes.split()),
        principal.id,
        public_key=public_jwk(key.public_key(), "k1"),
    )
    return Party(plane, (await _create(plane, ask)).client, key=key)


@asynccontextmanager
async def site(plane: ControlPlane) -> AsyncIterator[httpx.AsyncClient]:
    """Speak to the site as anybody would, without a credential."""
    transport = httpx.ASGITransport(plane.admin_app, raise_app_exceptions=False, client=("10.0.0.9", 4000))
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as client:
        yield client


async def make_keys(plane: ControlPlane) -> None:
    """Make the first signing keys, as the api does when it starts."""
    async with plane.database.transaction() as tx:
        await keys.keep_signing_keys(tx, SYSTEM, root=plane.admin_app.state.issuer.keys)


async def events(plane: ControlPlane) -> list[str]:
    from sqlalchemy import text  # noqa: PLC0415 - only here

    async with plane.database.transaction() as tx:
        return list((await tx.session.scalars(text("select event from audit_events order by seq"))).all())


def challenge_of(verifier: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def unsigned(header: dict[str, object], claims: dict[str, object]) -> str:
    """Return a token with any header, and a signature of nothing."""
    import json  # noqa: PLC0415 - only here

    parts = [encode(json.dumps(part).encode()) for part in (header, claims)]
    return f"{parts[0]}.{parts[1]}.{encode(b'x' * 64)}"


def ADMIN(plane: ControlPlane) -> Actor:
    return Actor("user_admin", Role.PLATFORM_ADMIN, method="password+totp", strong_at=plane.clock.now())


async def _create(plane: ControlPlane, ask: clients.ClientAsk) -> clients.NewClient:
    async with plane.database.transaction() as tx:
        return await clients.create_client(tx, ADMIN(plane), ask=ask)
