"""What somebody proves who he is with."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controlplane.kit.errors import Throttled, Unauthenticated


class Factor(StrEnum):
    """What is guessed at; every one counts for the same throttle."""

    PASSWORD = "password"  # noqa: S105 - the name of a factor
    TOTP = "totp"
    RECOVERY_CODE = "recovery-code"
    PASSKEY = "passkey"
    USER_CODE = "user-code"
    ENROLMENT_CODE = "enrolment-code"


@dataclass(frozen=True)
class Claim:
    """Somebody says who he is. `principal_id` is None when nobody has that name, which the answer must not tell."""

    principal_id: str | None
    name: str
    source: str


@dataclass(frozen=True)
class Proof:
    """What was shown. `strong`: two factors, or a passkey that verified its user, within this request."""

    principal_id: str
    methods: tuple[str, ...]
    strong: bool


@dataclass(frozen=True)
class PasskeyHeld:
    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True)
class FactorsHeld:
    """What a principal can prove itself with; no secret of it."""

    password_set_at: datetime | None
    totp_since: datetime | None
    recovery_codes_left: int
    passkeys: tuple[PasskeyHeld, ...]

    @property
    def has_second(self) -> bool:
        return self.totp_since is not None or bool(self.passkeys)


class WrongFactor(Unauthenticated):
    """One text for every cause, so that it does not tell which."""


class SecondFactorNeeded(Unauthenticated):
    """The password was right, and is not enough."""

    def __init__(self) -> None:
        super().__init__(
            "a second factor is needed",
            remedy="send the code of your authenticator, a recovery code, or use your passkey",
            code="second_factor_needed",
        )


class TooManyGuesses(Throttled):
    """Also for a right guess: else the answer would tell that it was right."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(
            f"too many attempts; the next one counts in {wait_s} s",
            remedy=f"wait {wait_s} s; nobody is locked out for longer than 15 minutes",
            code="too_many_attempts",
            wait_s=wait_s,
        )
