"""Shapes of enrolment, sign-in, sessions, users, roles and the break-glass."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Answer, Strict

PersonName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", description="letters, digits, . _ @ -")
]
Project = Annotated[str, Field(pattern=r"^(?:[a-z0-9][a-z0-9.-]{0,62})?$")]
Secret = Annotated[str, Field(min_length=8, max_length=200)]
Password = Annotated[str, Field(min_length=1, max_length=1024)]
Otp = Annotated[str, Field(max_length=16)]
RoleName = Literal[
    "platform-admin", "security-admin", "operator", "data-steward", "auditor", "tenant-admin", "tenant-user"
]


class BeginEnrolment(Strict):
    """`name` is for a code that was made at the console; a user's code knows whose it is."""

    code: Secret
    name: PersonName | None = None
    password: Password


class EnrolmentBegun(Answer):
    """What to put into an authenticator app, and the ticket that ends the enrolment. Shown this once."""

    ticket: str
    name: str
    roles: tuple[str, ...]
    totp_secret: str
    totp_uri: str
    expires_at: AwareDatetime


class FinishEnrolment(Strict):
    ticket: Secret
    otp: Otp
    client: Literal["cli", "console"] = "cli"


class Tokens(Answer):
    """`expires_at` is when the access token ends, `session_ends_at` when all does; the refresh token counts once."""

    session_id: str
    access_token: str
    refresh_token: str
    expires_at: AwareDatetime
    session_ends_at: AwareDatetime


class EnrolmentCode(Answer):
    """Shown this once."""

    code: str
    roles: tuple[str, ...]
    expires_at: AwareDatetime


class EnrolmentFinished(Answer):
    """`share` is a custodian's half of the break-glass, `next_code` lets the second administrator in."""

    name: str
    roles: tuple[str, ...]
    tokens: Tokens
    recovery_codes: tuple[str, ...]
    share: str
    next_code: EnrolmentCode | None


class SignIn(Strict):
    name: PersonName
    password: Password
    otp: Otp = ""
    recovery_code: str = Field(default="", max_length=64)


class Refresh(Strict):
    refresh_token: Secret
    client: Literal["cli", "redoubt-cli", "break-glass"] = "cli"


class StepUp(Strict):
    otp: Otp = ""
    recovery_code: str = Field(default="", max_length=64)


class SteppedUp(Answer):
    strong_at: AwareDatetime


class BreakGlassOpen(Answer):
    """Somebody may do everything until then, and everybody is told."""

    opened_at: AwareDatetime
    ends_at: AwareDatetime


class Whoami(Answer):
    """`role` is the first of `roles`; `break_glass` is set for everybody while a break-glass session is open."""

    id: str
    name: str
    role: str
    roles: tuple[str, ...]
    project: str
    site: str
    session: str
    method: str
    strong_at: AwareDatetime | None
    break_glass: BreakGlassOpen | None


class Session(Answer):
    id: str
    principal_id: str
    client: str
    methods: tuple[str, ...]
    source: str
    created_at: AwareDatetime
    seen_at: AwareDatetime
    strong_at: AwareDatetime | None
    ends_at: AwareDatetime
    revoked_at: AwareDatetime | None


class CreateUser(Strict):
    name: PersonName
    project: Project = ""
    roles: tuple[RoleName, ...] = Field(min_length=1, max_length=7)


class User(Answer):
    id: str
    kind: str
    name: str
    project: str
    roles: tuple[str, ...]
    created_at: AwareDatetime
    enrolled_at: AwareDatetime | None
    disabled_at: AwareDatetime | None


class NewUser(Answer):
    user: User
    enrolment: EnrolmentCode


class GrantRole(Strict):
    role: RoleName


class RoleGrant(Answer):
    role: str
    granted_by: str
    granted_at: AwareDatetime
    revoked_by: str | None
    revoked_at: AwareDatetime | None


class OpenBreakGlass(Strict):
    """Both custodians' shares; each counts once."""

    shares: tuple[Secret, Secret]
    reason: str = Field(min_length=8, max_length=500)


class Share(Answer):
    """Shown this once."""

    share: str


class BreakGlass(Answer):
    """`missing` are the offices from which nobody holds a share that counts."""

    open: tuple[BreakGlassOpen, ...]
    missing: tuple[str, ...]
