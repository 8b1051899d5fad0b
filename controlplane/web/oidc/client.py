"""A registered client as Authlib asks about it, and the four ways in which one proves itself."""

from collections.abc import Callable
from hmac import compare_digest
from typing import Any, TypeGuard  # Authlib has no types

from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion

from controlplane.domains.oauth import rules
from controlplane.domains.oauth.service import clients, tokens
from controlplane.domains.oauth.types import Client, ClientKind
from controlplane.domains.pki import service as pki
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import Unauthenticated
from controlplane.kit.jws import NotSigned, key_of_jwk, peek_claim, read_jwt
from controlplane.web.oidc.request import OidcRequest, wait

AUTHORIZATION_CODE = "authorization_code"
REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
CLIENT_CREDENTIALS = "client_credentials"
SIGNED_PROOFS = ["private_key_jwt", "tls_client_auth"]
PROOFS = ["client_secret_basic", *SIGNED_PROOFS, "none"]


class ClientView(ClientMixin):
    """What a client may do, by its kind alone."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def client_metadata(self) -> dict[str, Any]:
        return {"post_logout_redirect_uris": list(self.client.post_logout_redirect_uris)}

    def get_client_id(self) -> str:
        return self.client.id

    def get_default_redirect_uri(self) -> str | None:
        return None  # an address is always named: the one that is meant is then never a guess

    def get_allowed_scope(self, scope: str | None) -> str | None:
        return " ".join(sorted(rules.allowed_scopes(self.client, scope))) or None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return rules.redirects_to(self.client, redirect_uri)

    def check_client_secret(self, client_secret: str) -> bool:
        kept = self.client.secret_sha256
        return kept is not None and compare_digest(kept, sha256_hex(client_secret.encode()))

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        del endpoint
        return method == proof_of(self.client)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and self.client.kind != ClientKind.SERVICE

    def check_grant_type(self, grant_type: str) -> bool:
        if self.client.kind == ClientKind.SERVICE:
            return grant_type == CLIENT_CREDENTIALS
        devices = {DEVICE_CODE} if self.client.kind == ClientKind.NATIVE else set()
        return grant_type in {AUTHORIZATION_CODE, REFRESH_TOKEN, *devices}


def proof_of(client: Client) -> str:
    """Return the one way in which this client proves itself; a second way is never tried."""
    if client.certificate_uri is not None:
        return "tls_client_auth"
    if client.public_keys:
        return "private_key_jwt"
    return "none" if client.kind == ClientKind.NATIVE else "client_secret_basic"


class SignedAssertion(JWTBearerClientAssertion):
    """`private_key_jwt` (RFC 7523) with one algorithm, our own table's keys, a short life and a `jti` for once."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, request: OidcRequest, audiences: list[str]) -> None:
        super().__init__()
        self._request = request
        self._audiences = audiences

    def get_audiences(self) -> list[str]:
        return self._audiences

    def extract_assertion(self, assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Say whose assertion it claims to be; nothing else is read before the signature is."""
        try:
            return {}, {"sub": peek_claim(assertion, "sub")}
        except NotSigned as error:
            raise InvalidClientError(description=f"The assertion is refused: {error}.") from None

    def resolve_client_public_key(self, client: ClientView) -> tuple[dict[str, str], ...]:
        return client.client.public_keys

    def process_assertion_claims(self, assertion: str, resolve_key: object) -> dict[str, Any]:
        """Verify with the client's own keys, then judge the claims at the transaction's time."""
        del resolve_key
        client: Client = self._request.client.client
        if self._request.payload.client_id not in {None, client.id}:
            raise InvalidClientError(description="client_id names another client than the assertion.")
        keys = {jwk.get("kid", ""): key_of_jwk(jwk) for jwk in client.public_keys}
        try:
            claims = read_jwt(assertion, keys)
        except NotSigned as error:
            raise InvalidClientError(description=f"The assertion is refused: {error}.", status_code=401) from None
        self._judge(client, claims)
        return claims

    def _judge(self, client: Client, claims: dict[str, Any]) -> None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        jti, expires_at = claims.get("jti"), claims.get("exp")
        if claims.get("iss") != client.id or claims.get("sub") != client.id:
            raise InvalidClientError(description="iss and sub must both be the client's id.", status_code=401)
        if len(audiences) != 1 or audiences[0] not in self._audiences:
            raise InvalidClientError(description="aud must be this server alone.", status_code=401)
        if not isinstance(jti, str) or not 8 <= len(jti) <= 200 or not _is_number(expires_at):
            raise InvalidClientError(description="jti and exp are needed.", status_code=401)
        self._judge_times(client, claims, jti, float(expires_at))

    def _judge_times(self, client: Client, claims: dict[str, Any], jti: str, expires_at: float) -> None:
        request, issued_at = self._request, claims.get("iat")
        reason = rules.refuse_assertion_times(
            request.tx.now, float(issued_at) if _is_number(issued_at) else None, expires_at
        )
        if reason:
            raise InvalidClientError(description=f"The assertion does not count: {reason}.", status_code=401)
        actor = request.newcomer(client.id)
        if not wait(tokens.spend_assertion(request.tx, actor, client=client, jti=jti, expires_at=expires_at)):
            raise InvalidClientError(description="The assertion was used before.", status_code=401)


def client_without_proof(query_client: Callable[[str], ClientView | None], request: OidcRequest) -> ClientView | None:
    """Return the public client that is named; whoever shows any credential wants to be known by that one alone."""
    shown = "Authorization" in request.headers or {"client_secret", "client_assertion"} & request.form.keys()
    named = request.payload.client_id
    return None if shown or not named else query_client(named)


def client_of_certificate(query_client: object, request: OidcRequest) -> ClientView | None:
    """Return the client whose certificate the connection shows (RFC 8705, 2.1: its one URI name)."""
    del query_client
    if request.peer is None:
        return None
    try:
        wait(pki.authenticate_leaf(request.tx, request.peer.leaf))
    except Unauthenticated as error:
        raise InvalidClientError(description="The certificate does not count.", status_code=401) from error
    client = wait(clients.find_client_of_certificate(request.tx, request.peer.uri))
    claimed = request.payload.client_id
    return ClientView(client) if client is not None and claimed in {None, client.id} else None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e11
