"""Device authorization (RFC 8628), introspection (RFC 7662) and revocation (RFC 7009) on our own verbs."""

import re
from typing import Any  # Authlib's arguments have no types

from authlib.consts import default_json_headers
from authlib.oauth2.rfc6749 import InvalidRequestError, InvalidScopeError, UnauthorizedClientError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, SlowDownError

from controlplane.domains.identity.types import TokenFacts
from controlplane.domains.oauth import rules
from controlplane.domains.oauth.service import devices, tokens
from controlplane.domains.oauth.types import Refusal
from controlplane.web.oidc.client import DEVICE_CODE, PROOFS
from controlplane.web.oidc.request import OidcRequest, wait

VERIFICATION_PATH = "/device"
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


class DeviceAuthorization(DeviceAuthorizationEndpoint):
    """Gives a device its codes. There is no address with the code inside: who approves has to have read the code."""

    CLIENT_AUTH_METHODS = PROOFS

    def create_endpoint_response(self, request: OidcRequest) -> tuple[int, dict[str, Any], Any]:
        client = self.authenticate_client(request)
        if not client.check_grant_type(DEVICE_CODE):
            raise UnauthorizedClientError
        scopes = rules.allowed_scopes(client.client, request.payload.scope)
        if not scopes:
            raise InvalidScopeError
        start = wait(
            devices.begin_device(
                request.tx,
                request.newcomer(client.client.id),
                client=client.client,
                scopes=scopes,
                host=_host(request.form.get("device_host", "")),
            )
        )
        if isinstance(start, Refusal):
            raise SlowDownError
        body = {
            "device_code": start.device_code,
            "user_code": start.user_code,
            "verification_uri": self.server.issuer.at(VERIFICATION_PATH),
            "expires_in": start.expires_in_s,
            "interval": start.interval_s,
        }
        return 200, body, default_json_headers


class Introspection(IntrospectionEndpoint):
    """Says what a token is to the client that it was issued to, or to one that may ask of all."""

    CLIENT_AUTH_METHODS = [proof for proof in PROOFS if proof != "none"]  # noqa: RUF012 - Authlib's own shape

    def authenticate_token(self, request: OidcRequest, client: Any) -> TokenFacts | None:
        self.check_params(request, client)
        actor = request.newcomer(client.client.id)
        return wait(tokens.introspect(request.tx, actor, client=client.client, secret=request.form["token"]))

    def create_introspection_payload(self, token: TokenFacts | None) -> dict[str, Any]:
        if token is None:
            return {"active": False}
        return {
            "active": True,
            "iss": self.server.issuer.url,
            "client_id": token.session.client,
            "sub": token.session.principal_id,
            "username": token.session.principal_name,
            "scope": " ".join(sorted(token.session.scopes)),
            "token_type": "Bearer",
            "exp": int(token.expires_at.timestamp()),
            "iat": int(token.created_at.timestamp()),
            "sid": token.session.session_id,
        }


class Revocation(RevocationEndpoint):
    """Ends the whole session of a token; for an unknown one or another client's the answer is the same."""

    CLIENT_AUTH_METHODS = PROOFS

    def check_params(self, request: OidcRequest, client: Any) -> None:
        del client
        if "token" not in request.form:
            raise InvalidRequestError("Missing 'token' in request.")

    def authenticate_token(self, request: OidcRequest, client: Any) -> str:
        self.check_params(request, client)
        return request.form["token"]

    def revoke_token(self, token: str, request: OidcRequest) -> None:
        client = request.client.client
        wait(tokens.revoke(request.tx, request.newcomer(client.id), client=client, secret=token))


def _host(given: str) -> str:
    """Return the host that the device says it is; it is shown to a person, so it is a host's name or nothing."""
    return given if _HOST.fullmatch(given) else ""
