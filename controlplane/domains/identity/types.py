"""Words of identity: kinds of principals, keys and tokens, what a session is given, and what a refusal is called."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controlplane.domains.audit.types import Role


class PrincipalKind(StrEnum):
    USER = "user"
    SERVICE = "service"
    KEY = "key"
    NODE = "node"
    AGENT = "agent"
    BREAK_GLASS = "breakglass"


class KeyKind(StrEnum):
    """`admin` keys open the admin API, `inference` keys the gateway; neither opens the other."""

    ADMIN = "admin"
    INFERENCE = "inference"


class TokenKind(StrEnum):
    """What a secret may be used for; each kind is refused where another is wanted."""

    ACCESS = "access"
    REFRESH = "refresh"
    COOKIE = "cookie"


class Carrier(StrEnum):
    """How a client carries its session: a pair of tokens, one browser cookie, or one access token (a service)."""

    PAIR = "pair"
    COOKIE = "cookie"
    ACCESS = "access"


PREFIX = {KeyKind.ADMIN: "rda", KeyKind.INFERENCE: "rdk"}
TOKEN_PREFIX = {TokenKind.ACCESS: "rdt", TokenKind.REFRESH: "rdr", TokenKind.COOKIE: "rds"}

# What a session without an OAuth client is for: all that its holder may do. A client gets what was consented to.
API_SCOPE = "api"

# Roles that people and services are granted; the others belong to machines and to the process itself.
GRANTABLE = (
    Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN, Role.OPERATOR, Role.DATA_STEWARD, Role.AUDITOR, Role.TENANT_ADMIN,
    Role.TENANT_USER,
)  # fmt: skip


@dataclass(frozen=True)
class IssuedTokens:
    """Secrets of a session, shown this once; "" where the carrier has none. `expires_at` is the first to end."""

    session_id: str
    access: str
    refresh: str
    cookie: str
    expires_at: datetime


@dataclass(frozen=True)
class SessionFacts:
    """What the authorization server may know of a session: for which client, for what, and how it began."""

    session_id: str
    client: str
    principal_id: str
    principal_name: str
    scopes: frozenset[str]
    methods: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True)
class TokenFacts:
    """A token and its session."""

    session: SessionFacts
    created_at: datetime
    expires_at: datetime
