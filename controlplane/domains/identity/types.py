"""Words of identity: kinds of principals, keys and tokens, what a session is given, and what a refusal is called."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controlplane.domains.audit.types import Actor, Role


class PrincipalKind(StrEnum):
    USER = "user"
    SERVICE = "service"
    KEY = "key"
    NODE = "node"
    AGENT = "agent"
    BREAK_GLASS = "breakglass"


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


TOKEN_PREFIX = {TokenKind.ACCESS: "rdt", TokenKind.REFRESH: "rdr", TokenKind.COOKIE: "rds"}

# What a session without an OAuth client is for: all that its holder may do. A client gets what was consented to.
API_SCOPE = "api"

# Roles that people and services are granted; the others belong to machines and to the process itself.
GRANTABLE = (
    Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN, Role.OPERATOR, Role.DATA_STEWARD, Role.AUDITOR, Role.TENANT_ADMIN,
    Role.TENANT_USER,
)  # fmt: skip


# The two offices between which a site's power is split; each has a custodian of the break-glass.
FIRST_ROLES = (Role.PLATFORM_ADMIN, Role.OPERATOR)
SECOND_ROLES = (Role.SECURITY_ADMIN,)
CUSTODIANS = frozenset({Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN})


CONSOLE = Actor("console", Role.SYSTEM)  # root of the control-plane node


class Purpose(StrEnum):
    """What an enrolment code is for."""

    FIRST = "first"
    SECOND = "second"
    LOST = "lost"
    USER = "user"


@dataclass(frozen=True)
class IssuedTokens:
    """Secrets of a session, shown this once; "" where the carrier has none.

    `expires_at` is when the first of them ends, `session_ends_at` when the session is over whatever is done.
    """

    session_id: str
    access: str
    refresh: str
    cookie: str
    expires_at: datetime
    session_ends_at: datetime


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


@dataclass(frozen=True)
class NewCode:
    """An enrolment code, shown this once."""

    code: str
    purpose: Purpose
    roles: tuple[Role, ...]
    expires_at: datetime


@dataclass(frozen=True)
class Begun:
    """A code was good: what the person sets up now, and the ticket that ends it. All shown this once."""

    ticket: str
    name: str
    roles: tuple[Role, ...]
    totp_secret: str
    totp_uri: str
    expires_at: datetime


@dataclass(frozen=True)
class Enrolled:
    """Somebody is in. Codes, share and tokens are shown this once; `next_code` lets the second administrator in."""

    principal_id: str
    name: str
    roles: tuple[Role, ...]
    tokens: IssuedTokens
    recovery_codes: tuple[str, ...]
    share: str
    next_code: NewCode | None


@dataclass(frozen=True)
class OpenGlass:
    """A break-glass session that is open now."""

    session_id: str
    opened_at: datetime
    ends_at: datetime
