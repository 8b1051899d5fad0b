"""The four grants on our own verbs. Authlib checks the words; each verb checks again and consumes once."""

from dataclasses import dataclass
from typing import Any, NoReturn  # Authlib has no types

from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    AccessDeniedError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    UnauthorizedClientError,
    grants,
)
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7636.challenge import compare_s256_code_challenge
from authlib.oauth2.rfc8628 import AuthorizationPendingError, DeviceCodeGrant, ExpiredTokenError, SlowDownError

from controlplane.domains.oauth import rules
from controlplane.domains.oauth.service import codes, devices, tokens
from controlplane.domains.oauth.types import CodeAsk, CodeFacts, Granted, Refusal, SignIn
from controlplane.kit.errors import Denied, Unauthenticated
from controlplane.web.oidc.answer import ProtocolRefused
from controlplane.web.oidc.client import PROOFS, SIGNED_PROOFS
from controlplane.web.oidc.request import wait

ERRORS = {
    Refusal.INVALID: InvalidGrantError,
    Refusal.PENDING: AuthorizationPendingError,
    Refusal.SLOW_DOWN: SlowDownError,
    Refusal.DENIED: AccessDeniedError,
    Refusal.EXPIRED: ExpiredTokenError,
}


class S256Only(CodeChallenge):
    """PKCE for every client, with SHA-256 alone: Authlib's own lets `plain` through and confidential clients off."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)
    CODE_CHALLENGE_METHODS = {"S256": compare_s256_code_challenge}  # noqa: RUF012 - Authlib's own shape

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse at the authorization endpoint already, before anybody is asked to sign in."""
        super().validate_code_challenge(grant, redirect_uri)
        data = grant.request.payload.data
        if not rules.is_challenge(data.get("code_challenge"), data.get("code_challenge_method")):
            raise InvalidRequestError("PKCE is needed: a code_challenge with code_challenge_method S256.")

    def validate_code_verifier(self, grant: Any, result: object) -> None:
        if not grant.request.form.get("code_verifier"):
            raise InvalidRequestError("Missing 'code_verifier'")
        super().validate_code_verifier(grant, result)


class PlainRequests:
    """Refuses what would bring parameters from elsewhere, or send the answer in another way (OIDC Core, 6 and 7.2)."""

    REFUSED = {  # noqa: RUF012 - read only
        "request": "request_not_supported",
        "request_uri": "request_uri_not_supported",
        "registration": "registration_not_supported",
    }

    def __call__(self, grant: Any) -> None:
        grant.register_hook("after_validate_authorization_request_payload", self.validate)

    def validate(self, grant: Any, redirect_uri: str) -> None:
        del redirect_uri
        data = grant.request.payload.data
        for name, error in self.REFUSED.items():
            if name in data:
                raise OAuth2Error(f"The parameter {name} is not supported.", error=error)
        if data.get("response_mode", "query") != "query":
            raise InvalidRequestError("The only response_mode is query.")


@dataclass(frozen=True)
class CodeView:
    """What Authlib reads of a code before it is consumed; used and expired ones too, so that reuse is noticed."""

    facts: CodeFacts
    code_challenge_method = "S256"

    @property
    def code_challenge(self) -> str:
        return self.facts.code_challenge

    def get_redirect_uri(self) -> str:
        return self.facts.redirect_uri

    def get_scope(self) -> str:
        return " ".join(sorted(self.facts.scopes))


@dataclass(frozen=True)
class Grantor:
    """Who allows it, and how that person had signed in."""

    actor: Any
    sign_in: SignIn


class CodeGrant(grants.AuthorizationCodeGrant):
    """Authorization code. Looking up and consuming are one verb, so two askers cannot both be the first."""

    TOKEN_ENDPOINT_AUTH_METHODS = PROOFS

    def create_authorization_response(
        self, redirect_uri: str, grant_user: Grantor | None
    ) -> tuple[int, str, list[Any]]:
        if grant_user is None:
            raise AccessDeniedError(redirect_uri=redirect_uri)
        request = self.request
        ask = CodeAsk(
            redirect_uri,
            frozenset(request.scope.split()),
            request.payload.data["code_challenge"],
            request.payload.data.get("nonce", "")[:255],
        )
        client = request.client.client
        code = wait(codes.grant_code(request.tx, grant_user.actor, client=client, ask=ask, sign_in=grant_user.sign_in))
        params = [("code", code), *([("state", request.payload.state)] if request.payload.state else [])]
        return 302, "", [("Location", add_params_to_uri(redirect_uri, params))]

    def query_authorization_code(self, code: str, client: Any) -> CodeView | None:
        facts = wait(codes.find_code(self.request.tx, client=client.client, code=code))
        return None if facts is None else CodeView(facts)

    def authenticate_user(self, authorization_code: CodeView) -> str:
        return authorization_code.facts.principal_id

    def generate_token(self, **_: object) -> dict[str, Any]:
        request = self.request
        bought = wait(
            codes.redeem_code(
                request.tx,
                request.newcomer(request.client.client.id),
                client=request.client.client,
                code=request.form["code"],
                redirect_uri=request.payload.redirect_uri,
                verifier=request.form.get("code_verifier"),
            )
        )
        return self.server.give(request, bought)  # type: ignore[no-any-return]  # Authlib has no types

    def save_token(self, token: dict[str, Any]) -> None:
        """Nothing: the verb has written it."""

    def delete_authorization_code(self, authorization_code: Any) -> None:
        """Nothing: the verb has consumed it, and kept it so that a second use is noticed."""


class RefreshGrant(grants.RefreshTokenGrant):
    """Refresh with rotation; identity's verb consumes the token and ends the whole family when it is shown twice."""

    TOKEN_ENDPOINT_AUTH_METHODS = PROOFS

    def validate_token_request(self) -> None:
        self.request.client = self._validate_request_client()
        if not self.request.form.get("refresh_token"):
            raise InvalidRequestError("Missing 'refresh_token' in request.")

    def create_token_response(self) -> tuple[int, dict[str, Any], Any]:
        request = self.request
        actor, client = request.newcomer(request.client.client.id), request.client.client
        try:
            bought = wait(tokens.refresh(request.tx, actor, client=client, secret=request.form["refresh_token"]))
        except (Denied, Unauthenticated) as error:
            raise ProtocolRefused("invalid_grant", error.detail, keeps_changes=error.keeps_changes) from None
        if request.payload.scope and frozenset(request.payload.scope.split()) != bought.scopes:
            raise InvalidScopeError("The scope of a session does not change; ask for the same, or leave it out.")
        return 200, self.server.give(request, bought), self.TOKEN_RESPONSE_HEADER


class DeviceGrant(DeviceCodeGrant):
    """Device code. What Authlib asks in four steps (known, expired, decided, too fast) is one verb that consumes."""

    TOKEN_ENDPOINT_AUTH_METHODS = PROOFS

    def validate_token_request(self) -> None:
        if not self.request.payload.data.get("device_code"):
            raise InvalidRequestError("Missing 'device_code' in payload")
        client = self.authenticate_token_endpoint_client()
        if not client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError
        self.request.client = client

    def create_token_response(self) -> tuple[int, dict[str, Any], Any]:
        request = self.request
        client = request.client.client
        code = request.payload.data["device_code"]
        bought = wait(devices.redeem_device(request.tx, request.newcomer(client.id), client=client, device_code=code))
        return 200, self.server.give(request, bought), self.TOKEN_RESPONSE_HEADER


class ServiceGrant(grants.ClientCredentialsGrant):
    """Client credentials, for a service that signs or shows a certificate; a shared secret does not open this."""

    TOKEN_ENDPOINT_AUTH_METHODS = SIGNED_PROOFS

    def generate_token(self, **_: object) -> dict[str, Any]:
        request = self.request
        client = request.client.client
        scopes = rules.allowed_scopes(client, request.payload.scope)
        if not scopes:
            raise InvalidScopeError
        bought = wait(
            tokens.grant_service(
                request.tx, request.newcomer(client.id), client=client, scopes=scopes, method=request.auth_method
            )
        )
        return self.server.give(request, bought)  # type: ignore[no-any-return]  # Authlib has no types

    def save_token(self, token: dict[str, Any]) -> None:
        """Nothing: the verb has written it."""


def refuse(request: Any, refusal: Refusal) -> NoReturn:
    """Raise the protocol's error; what a poll or a second use changed is committed with it."""
    request.keeps_changes = True
    raise ERRORS[refusal]


def body_of(now: Any, bought: Granted) -> dict[str, Any]:
    """Return the token response (RFC 6749, 5.1)."""
    body = {
        "access_token": bought.tokens.access,
        "token_type": "Bearer",
        "expires_in": max(0, int((bought.tokens.expires_at - now).total_seconds())),
        "scope": " ".join(sorted(bought.scopes)),
    }
    return {**body, "refresh_token": bought.tokens.refresh} if bought.tokens.refresh else body
