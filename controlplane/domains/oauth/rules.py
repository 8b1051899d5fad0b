"""Decisions of the authorization server: data in, data out."""

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Collection
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import assert_never

from controlplane.domains.oauth.types import AskError, Client, ClientKind, Scope, Standing, Step, Wish

CODE_LIFETIME = timedelta(seconds=60)
DEVICE_LIFETIME = timedelta(minutes=10)
ASSERTION_LONGEST = timedelta(minutes=5)
ASSERTION_SKEW = timedelta(seconds=60)
ID_TOKEN_LIFETIME = timedelta(minutes=10)
KEY_LIFETIME = timedelta(days=90)
KEY_AFTERLIFE = timedelta(days=1)  # longer than any id_token and any cache of the JWKS lives
FIRST_INTERVAL_S = 5
SLOW_DOWN_S = 5  # RFC 8628, 3.5
LONGEST_INTERVAL_S = 60

MOST_OPEN_DEVICES = 20  # codes of one source that wait for a decision
MOST_WRONG_CODES = 5  # of one session; then it has to sign in anew
PROMPTS = frozenset({"none", "login", "consent", "select_account"})

USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # RFC 8628, 6.1: no vowels, so no words; 8 of 20 are 34 bits
USER_CODE_LENGTH = 8

ONE_FACTOR = "urn:redoubt:acr:one-factor"
TWO_FACTORS = "urn:redoubt:acr:two-factors"
_AMR = {"password": "pwd", "totp": "otp", "recovery_code": "kba", "recovery-code": "kba", "passkey": "hwk"}
_FACTORS = frozenset(_AMR)

_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:]+\]|[a-z0-9.-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>/[A-Za-z0-9._~!$&'()+,;=:@/?%-]*)?"
)  # what a redirect address may be made of: no user part, no fragment, no wildcard
_LOOPBACK = frozenset({"127.0.0.1", "[::1]"})  # RFC 8252, 7.3; `localhost` may be resolved elsewhere (8.3)
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # SHA-256 in base64url: RFC 7636, 4.2
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, 4.1


def redirects_to(client: Client, uri: str) -> bool:
    """Say whether this very address is registered; a native client's loopback may have any port (RFC 8252, 7.3)."""
    if uri in client.redirect_uris:
        return True
    if client.kind != ClientKind.NATIVE:
        return False
    return any(_is_same_but_port(registered, uri) for registered in client.redirect_uris)


def refuse_redirect_uri(kind: ClientKind, uri: str) -> str | None:
    """Say why an address cannot be registered; None when it can."""
    parts = _ADDRESS.fullmatch(uri)
    if parts is None:
        return "not an absolute address of plain letters, without user part, fragment and wildcard"
    if parts["scheme"] == "https":
        return None
    if kind == ClientKind.NATIVE and parts["host"] in _LOOPBACK:
        return None
    return "only https, or for a native client http on 127.0.0.1 or [::1]"


def refuse_shape(kind: ClientKind, *, proofs: int, redirects: bool, scopes: Collection[str]) -> str | None:
    """Say why a client of this kind cannot be so; `proofs` counts its public key and its certificate."""
    match kind:
        case ClientKind.SERVICE:
            if proofs != 1 or redirects:
                return "a service proves itself by one key or one certificate, and nobody is sent back to it"
        case ClientKind.NATIVE:
            if proofs or not redirects:
                return "a native client has no key and at least one address to come back to"
        case ClientKind.WEB:
            if not redirects:
                return "a web client needs at least one address to come back to"
        case _:
            assert_never(kind)
    if Scope.INTROSPECT in scopes and kind == ClientKind.NATIVE:
        return "a client without a secret may not ask about tokens"
    return None


def is_challenge(challenge: str | None, method: str | None) -> bool:
    """Say whether the PKCE challenge is an S256 one: the only method, for every client."""
    return method == "S256" and challenge is not None and _CHALLENGE.fullmatch(challenge) is not None


def proves(verifier: str | None, challenge: str) -> bool:
    """Say whether the verifier is the one that the challenge was made of (RFC 7636, 4.6)."""
    if verifier is None or _VERIFIER.fullmatch(verifier) is None:
        return False
    made = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return compare_digest(made, challenge)


def allowed_scopes(client: Client, asked: str | None) -> frozenset[str]:
    """Return what of `asked` the client may have; words we do not know are ignored (OIDC Core, 3.1.2.1)."""
    return client.scopes if not asked else client.scopes & frozenset(asked.split())


def normal_user_code(typed: str) -> str:
    """Return a typed code as it was made: upper case, no dash, no space."""
    return re.sub(r"[\s-]", "", typed).upper()


def show_user_code(code: str) -> str:
    return f"{code[:4]}-{code[4:]}"


def polls_too_fast(now: datetime, last_polled_at: datetime | None, interval_s: int) -> bool:
    return last_polled_at is not None and now - last_polled_at < timedelta(seconds=interval_s)


def next_step(now: datetime, wish: Wish, standing: Standing) -> Step | AskError:
    """Choose what a browser at the authorization endpoint sees next (OIDC Core, 3.1.2.1 and 3.1.2.3)."""
    silent = "none" in wish.prompts
    if (silent and len(wish.prompts) > 1) or not wish.prompts <= PROMPTS:
        return AskError.INVALID
    if _must_sign_in(now, wish, standing):
        tried = wish.signed_in_after is not None and standing.signed_in_at is not None and not standing.is_hinted
        return AskError.LOGIN if silent or tried else Step.SIGN_IN
    if "consent" in wish.prompts or not standing.has_consented:
        return AskError.CONSENT if silent else Step.CONSENT
    return Step.GRANT


def _must_sign_in(now: datetime, wish: Wish, standing: Standing) -> bool:
    at = standing.signed_in_at
    if at is None or not standing.is_hinted or wish.prompts & {"login", "select_account"}:
        return True
    if wish.max_age_s is not None and now - at > timedelta(seconds=wish.max_age_s):
        return True
    return wish.signed_in_after is not None and at < wish.signed_in_after


def refuse_assertion_times(now: datetime, issued_at: float | None, expires_at: float) -> str | None:
    """Say why the times of a client assertion do not count; one that lives long is as good as a password."""
    at = now.timestamp()
    if expires_at <= at - ASSERTION_SKEW.total_seconds():
        return "it is expired"
    if expires_at > at + (ASSERTION_LONGEST + ASSERTION_SKEW).total_seconds():
        return "it lives longer than five minutes"
    if issued_at is not None and issued_at > at + ASSERTION_SKEW.total_seconds():
        return "it was issued in the future"
    return None


def acr_of(methods: Collection[str]) -> str:
    """Return the authentication context: how many factors stand behind the sign-in."""
    strong = "passkey" in methods or len(set(methods) & _FACTORS) > 1
    return TWO_FACTORS if strong else ONE_FACTOR


def amr_of(methods: Collection[str]) -> list[str]:
    """Return the methods in the words of RFC 8176."""
    return sorted({_AMR[method] for method in methods if method in _AMR})


def is_rotation_due(now: datetime, current_since: datetime) -> bool:
    return now - current_since >= KEY_LIFETIME


def _is_same_but_port(registered: str, uri: str) -> bool:
    known, given = _ADDRESS.fullmatch(registered), _ADDRESS.fullmatch(uri)
    if known is None or given is None or known["scheme"] != "http" or known["host"] not in _LOOPBACK:
        return False
    return all(known[part] == given[part] for part in ("scheme", "host", "rest"))
