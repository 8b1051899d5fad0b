"""The error family. An error names the fact and the way forward; each face maps it once.

RedoubtError
├── BadInput          422  exit 2   the ask itself is wrong
├── Unauthenticated   401  exit 3   nobody knows who asks
├── Denied            403  exit 3   known, and may not
├── NotFound          404  exit 3   not there, or not for this actor
├── Conflict          409  exit 3   the state says no
├── Refused           409  exit 3   a rule says no, with reasons
├── Throttled         429  exit 3   asked too often; again after `wait_s`
└── Unavailable       503  exit 1   a part that is needed does not answer
    └── NotReady      503  exit 1   the site is not set up so far, and whoever asks is told the next step
"""

from typing import ClassVar


class RedoubtError(Exception):
    """Base of every error that a person may see."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "internal"

    def __init__(
        self, detail: str, *, remedy: str, code: str = "", reasons: tuple[str, ...] = (), keeps_changes: bool = False
    ) -> None:
        """`keeps_changes` commits what the refusing verb wrote: a failed attempt, a family that is revoked."""
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.code = code or self.kind
        self.reasons = reasons
        self.keeps_changes = keeps_changes


class BadInput(RedoubtError):
    status = 422
    exit_code = 2
    kind = "bad_input"


class Unauthenticated(RedoubtError):
    status = 401
    exit_code = 3
    kind = "unauthenticated"


class Denied(RedoubtError):
    status = 403
    exit_code = 3
    kind = "denied"


class NotFound(RedoubtError):
    status = 404
    exit_code = 3
    kind = "not_found"


class Conflict(RedoubtError):
    status = 409
    exit_code = 3
    kind = "conflict"


class Refused(RedoubtError):
    status = 409
    exit_code = 3
    kind = "refused"


class Throttled(RedoubtError):
    status = 429
    exit_code = 3
    kind = "throttled"

    def __init__(self, detail: str, *, remedy: str, wait_s: int, code: str = "") -> None:
        super().__init__(detail, remedy=remedy, code=code)
        self.wait_s = wait_s


class Unavailable(RedoubtError):
    status = 503
    exit_code = 1
    kind = "unavailable"


class NotReady(Unavailable):
    """Unlike a fault of ours its cause is said to everybody."""

    def __init__(self, detail: str, *, remedy: str) -> None:
        super().__init__(detail, remedy=remedy, code="not_enrolled")
