"""The id_token: who signed in, when and how; signed with Ed25519 alone."""

from typing import Any  # Authlib's arguments have no types

from authlib.oidc.core.grants.code import OpenIDToken
from authlib.oidc.core.util import create_half_hash
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.domains.identity.service import tokens as identity
from controlplane.domains.oauth import rules
from controlplane.domains.oauth.service import keys
from controlplane.domains.oauth.types import Granted, Scope
from controlplane.kit.jws import sign_jwt
from controlplane.web.oidc.request import OidcRequest, wait


class SignedIdToken(OpenIDToken):
    """Adds the id_token to a code's answer when `openid` was granted. Its times are the transaction's."""

    def __init__(self, issuer: str, root: Ed25519PrivateKey) -> None:
        self._issuer = issuer
        self._root = root

    def encode_id_token(self, token: dict[str, Any], request: OidcRequest) -> str:
        bought = request.bought
        if bought is None:
            raise TypeError("an id_token before anything was bought")
        kid, key = wait(keys.current_key(request.tx, self._root))
        claims = self._claims(token, request, bought)
        claims.update(wait(claims_of_person(request.tx, bought.principal_id, bought.scopes)))
        return sign_jwt(key, kid, claims)

    def _claims(self, token: dict[str, Any], request: OidcRequest, bought: Granted) -> dict[str, object]:
        now = int(request.tx.now.timestamp())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": request.client.client.id,
            "iat": now,
            "exp": now + int(rules.ID_TOKEN_LIFETIME.total_seconds()),
            "sid": bought.tokens.session_id,
            "at_hash": create_half_hash(token["access_token"], "EdDSA").decode(),
        }
        if bought.nonce:
            claims["nonce"] = bought.nonce
        if bought.sign_in is not None:
            claims["auth_time"] = int(bought.sign_in.at.timestamp())
            claims["acr"] = rules.acr_of(bought.sign_in.methods)
            claims["amr"] = rules.amr_of(bought.sign_in.methods)
        return claims


async def claims_of_person(tx: Any, principal_id: str, scopes: frozenset[str]) -> dict[str, object]:
    """Return what a client may know of a person: the id, and with `profile` the name."""
    claims: dict[str, object] = {"sub": principal_id}
    if Scope.PROFILE in scopes:
        name = await identity.get_principal_name(tx, principal_id=principal_id)
        claims |= {"name": name, "preferred_username": name}
    return claims
