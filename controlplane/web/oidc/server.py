"""Authlib's authorization server on our tables. One is made for each request, because it holds the transaction."""

from typing import Any  # Authlib's arguments have no types

from authlib.oauth2.rfc6749 import AuthorizationServer

from controlplane.domains.oauth.service import clients
from controlplane.domains.oauth.types import Granted, Refusal
from controlplane.web.oidc.answer import Answer
from controlplane.web.oidc.client import ClientView, SignedAssertion, client_of_certificate, client_without_proof
from controlplane.web.oidc.endpoints import DeviceAuthorization, Introspection, Revocation
from controlplane.web.oidc.grants import (
    CodeGrant,
    DeviceGrant,
    PlainRequests,
    RefreshGrant,
    S256Only,
    ServiceGrant,
    body_of,
    refuse,
)
from controlplane.web.oidc.id_token import SignedIdToken
from controlplane.web.oidc.issuer import Issuer
from controlplane.web.oidc.logout import EndSession
from controlplane.web.oidc.request import OidcRequest, wait


class OidcServer(AuthorizationServer):
    """The protocol's machine: which grants there are, how clients prove themselves, and what an answer is."""

    def __init__(self, request: OidcRequest, issuer: Issuer) -> None:
        super().__init__()
        self.issuer = issuer
        self._request = request
        self.register_client_auth_method("private_key_jwt", SignedAssertion(request, issuer.audiences))
        self.register_client_auth_method("tls_client_auth", client_of_certificate)
        self.register_client_auth_method("none", client_without_proof)
        self.register_grant(CodeGrant, [S256Only(), PlainRequests(), SignedIdToken(issuer.url, issuer.keys)])
        for grant in (RefreshGrant, DeviceGrant, ServiceGrant):
            self.register_grant(grant)
        for endpoint in (DeviceAuthorization, Introspection, Revocation, EndSession):
            self.register_endpoint(endpoint)

    def query_client(self, client_id: str) -> ClientView | None:
        client = wait(clients.find_live_client(self._request.tx, client_id))
        return None if client is None else ClientView(client)

    def validate_requested_scope(self, scope: str | None) -> None:
        """Nothing: what a client may not have is left out, and the answer says what it got (OIDC Core, 3.1.2.1)."""

    def give(self, request: OidcRequest, bought: Granted | Refusal) -> dict[str, Any]:
        """Return the token response, or raise the protocol's error."""
        if isinstance(bought, Refusal):
            refuse(request, bought)
        request.bought = bought
        return body_of(request.tx.now, bought)

    def create_oauth2_request(self, request: OidcRequest) -> OidcRequest:
        return request

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nobody listens: events are written by the verbs."""

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Answer:
        return Answer(status, body, list(headers))
