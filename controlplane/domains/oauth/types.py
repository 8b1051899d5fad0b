"""Words of the site's own OAuth 2.1 and OpenID Connect server."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from controlplane.domains.identity.types import IssuedTokens


class ClientKind(StrEnum):
    """`native` holds no secret (RFC 8252), `web` holds one, `service` acts for itself with a key or a certificate."""

    NATIVE = "native"
    WEB = "web"
    SERVICE = "service"


class Scope(StrEnum):
    """`openid` and `profile` say who signed in, `api` opens the admin API as that person, `introspect` asks."""

    OPENID = "openid"
    PROFILE = "profile"
    API = "api"
    INTROSPECT = "introspect"


class KeyState(StrEnum):
    """`next` is published and signs nothing yet, `previous` only verifies."""

    NEXT = "next"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"


class Refusal(StrEnum):
    """Why a code, a device code or a token buys nothing; each is an error of RFC 6749 or RFC 8628."""

    INVALID = "invalid_grant"
    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    DENIED = "access_denied"
    EXPIRED = "expired_token"


class Step(StrEnum):
    """What a browser at the authorization endpoint sees next."""

    SIGN_IN = "sign_in"
    CONSENT = "consent"
    GRANT = "grant"


class AskError(StrEnum):
    """What the client is told instead (OIDC Core, 3.1.2.6)."""

    INVALID = "invalid_request"
    LOGIN = "login_required"
    CONSENT = "consent_required"


@dataclass(frozen=True)
class Wish:
    """How the client wants the person asked. `signed_in_after`: this browser was sent to sign in at that time."""

    prompts: frozenset[str] = frozenset()
    max_age_s: int | None = None
    signed_in_after: datetime | None = None


@dataclass(frozen=True)
class Standing:
    """Who sits there: since when, whether it is whom the client expects, and what was allowed before."""

    signed_in_at: datetime | None = None
    is_hinted: bool = True
    has_consented: bool = False


@dataclass(frozen=True)
class Client:
    """A registered client, as rules and faces see it."""

    id: str
    name: str
    kind: ClientKind
    scopes: frozenset[str]
    principal_id: str | None = None
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    secret_sha256: str | None = None
    public_keys: tuple[dict[str, str], ...] = field(default=(), hash=False)
    certificate_uri: str | None = None
    created_at: datetime | None = None
    disabled_at: datetime | None = None


@dataclass(frozen=True)
class SignIn:
    """How and when the person had signed in at the site; what the id_token says of it."""

    methods: tuple[str, ...]
    at: datetime


@dataclass(frozen=True)
class CodeAsk:
    """What an authorization request asked for, after it was checked."""

    redirect_uri: str
    scopes: frozenset[str]
    code_challenge: str
    nonce: str = ""


@dataclass(frozen=True)
class CodeFacts:
    """What may be looked at before a code is consumed."""

    principal_id: str
    redirect_uri: str
    scopes: frozenset[str]
    code_challenge: str


@dataclass(frozen=True)
class Granted:
    """What a code, a device code, a refresh token or a service's key bought. Secrets are here once."""

    principal_id: str
    scopes: frozenset[str]
    tokens: IssuedTokens
    sign_in: SignIn | None = None
    nonce: str = ""


@dataclass(frozen=True)
class DeviceStart:
    """Both codes of a device sign-in, shown this once."""

    device_code: str
    user_code: str
    expires_in_s: int
    interval_s: int


@dataclass(frozen=True)
class DeviceRequest:
    """What somebody who approves must see: which client, from where, on which host, for what."""

    id: str
    client_id: str
    client_name: str
    source: str
    host: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime


CLI = Client(
    id="redoubt-cli",
    name="the redoubt command",
    kind=ClientKind.NATIVE,
    scopes=frozenset({Scope.OPENID, Scope.PROFILE, Scope.API}),
)
