"""The end of a browser's session, asked for by a client (OpenID Connect RP-Initiated Logout 1.0)."""

from typing import Any  # Authlib's arguments have no types

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oidc.rpinitiated import EndSessionEndpoint

from controlplane.domains.oauth.service import keys
from controlplane.kit.jws import NotSigned, read_jwt
from controlplane.web.oidc.request import OidcRequest, wait


class EndSession(EndSessionEndpoint):
    """Checks the request; ending is the page's matter, because a person is asked first."""

    _request: OidcRequest

    def validate_request(self, request: OidcRequest) -> Any:
        self._request = request
        return super().validate_request(request)

    def _validate_id_token_hint(self, id_token_hint: str) -> dict[str, Any]:
        """Return the claims of an id_token of ours; an expired one still says who (2)."""
        claims = wait(read_hint(self._request, id_token_hint, self.server.issuer.url))
        if claims is None:
            raise InvalidRequestError("The id_token_hint is not of this server.")
        return claims

    def end_session(self, end_session_request: Any) -> None:
        """Nothing: the page has ended it."""


async def read_hint(request: OidcRequest, id_token_hint: str, issuer: str) -> dict[str, Any] | None:
    """Return the claims of an id_token that this server signed; its time may be over."""
    try:
        claims = read_jwt(id_token_hint, await keys.verification_keys(request.tx))
    except NotSigned:
        return None
    return claims if claims.get("iss") == issuer else None
