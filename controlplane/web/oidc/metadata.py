"""What a client may know beforehand: OpenID Connect Discovery 1.0 and RFC 8414, one answer for both."""

from controlplane.domains.oauth.types import Scope
from controlplane.web.oidc.client import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, PROOFS, REFRESH_TOKEN
from controlplane.web.oidc.issuer import Issuer

ENDPOINTS = {
    "authorization_endpoint": "/oauth/authorize",
    "token_endpoint": "/oauth/token",
    "device_authorization_endpoint": "/oauth/device_authorization",
    "introspection_endpoint": "/oauth/introspect",
    "revocation_endpoint": "/oauth/revoke",
    "userinfo_endpoint": "/oauth/userinfo",
    "end_session_endpoint": "/oauth/end_session",
    "jwks_uri": "/oauth/jwks",
}
WITH_CERTIFICATE = ("token_endpoint", "introspection_endpoint", "revocation_endpoint")


def describe(issuer: Issuer) -> dict[str, object]:
    """Return the metadata. RS256 is not in it: this server signs with Ed25519 alone (decision 0019)."""
    strong = [proof for proof in PROOFS if proof != "none"]
    described: dict[str, object] = {
        "issuer": issuer.url,
        **{name: issuer.at(path) for name, path in ENDPOINTS.items()},
        "scopes_supported": list(Scope),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE, CLIENT_CREDENTIALS],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
        "token_endpoint_auth_methods_supported": PROOFS,
        "token_endpoint_auth_signing_alg_values_supported": ["EdDSA", "Ed25519"],
        "introspection_endpoint_auth_methods_supported": strong,
        "introspection_endpoint_auth_signing_alg_values_supported": ["EdDSA", "Ed25519"],
        "revocation_endpoint_auth_methods_supported": PROOFS,
        "revocation_endpoint_auth_signing_alg_values_supported": ["EdDSA", "Ed25519"],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "acr_values_supported": ["urn:redoubt:acr:one-factor", "urn:redoubt:acr:two-factors"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid", "name",
            "preferred_username",
        ],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
    }  # fmt: skip
    if issuer.machine_url:
        aliases = {name: f"{issuer.machine_url}{ENDPOINTS[name]}" for name in WITH_CERTIFICATE}
        described["mtls_endpoint_aliases"] = aliases
    return described
