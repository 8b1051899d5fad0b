"""What the gateway refuses; error_shapes has how each dialect says it.

Refusal
├── BadRequest 400 ─ MethodNotAllowed 405, BodyTooLarge 413, ExpectationFailed 417, HeadTooLarge 431
├── WrongKey 401
├── KeyNotForThis 403
├── UnknownRoute 404, ModelNotFound 404, NotServed 404
├── RevisionGone 409
├── NotHere 451
├── ReplicaLost 502
├── NoReplica 503, NoSnapshot 503, NotRecorded 503, TooMuchAtOnce 503
├── BudgetExhausted 429, BudgetRanOut 429, BudgetUnknown 503, TooManyBudgets 503
├── QueueFull 429, QueueTimeout 429
└── TooSlow 408, ReplicaTooSlow 504, DeadlinePassed 504
"""

from http import HTTPStatus
from typing import ClassVar

from controlplane.kit.errors import RedoubtError


class Refusal(RedoubtError):
    """A request that gets no completion; `param` names the field at fault."""

    type: ClassVar[str] = "invalid_request_error"
    retry_after_s: int = 0

    def __init__(self, detail: str, *, remedy: str, param: str | None = None, code: str = "") -> None:
        super().__init__(detail, remedy=remedy, code=code)
        self.param = param


class BadRequest(Refusal):
    status = 400
    kind = "bad_request"


class MethodNotAllowed(BadRequest):
    status = 405
    kind = "method_not_allowed"


class BodyTooLarge(BadRequest):
    status = 413
    kind = "body_too_large"


class ExpectationFailed(BadRequest):
    status = 417
    kind = "expectation_failed"


class HeadTooLarge(BadRequest):
    status = 431
    kind = "head_too_large"


class Unprocessable(BadRequest):
    status = 422
    kind = "unprocessable"


class WrongKey(Refusal):
    status = 401
    kind = "invalid_api_key"


class KeyNotForThis(Refusal):
    status = 403
    kind = "key_not_for_this"
    type = "permission_error"


class NotHere(Refusal):
    """The data may not go where the endpoint is; the detail names the rule."""

    status = 451
    kind = "policy_denied"
    type = "permission_error"


class UnknownRoute(Refusal):
    status = 404
    kind = "unknown_route"


class ModelNotFound(Refusal):
    status = 404
    kind = "model_not_found"


class NotServed(Refusal):
    status = 404
    kind = "surface_not_served"


class RevisionGone(Refusal):
    status = 409
    kind = "revision_gone"
    type = "conflict_error"


class TooSlow(Refusal):
    status = 408
    kind = "request_timeout"


class ReplicaLost(Refusal):
    status = 502
    kind = "replica_lost"
    type = "server_error"


class NoReplica(Refusal):
    status = 503
    kind = "no_ready_replica"
    type = "service_unavailable"
    retry_after_s = 2


class NoSnapshot(Refusal):
    status = 503
    kind = "no_valid_snapshot"
    type = "service_unavailable"
    retry_after_s = 5


class NotRecorded(Refusal):
    status = 503
    kind = "not_recorded"
    type = "service_unavailable"
    retry_after_s = 2


class TooMuchAtOnce(Refusal):
    status = 503
    kind = "too_much_at_once"
    type = "service_unavailable"
    retry_after_s = 2


class ReplicaTooSlow(Refusal):
    status = 504
    kind = "replica_timeout"
    type = "server_error"


class DeadlinePassed(Refusal):
    status = 504
    kind = "deadline_passed"
    type = "server_error"


class BudgetExhausted(Refusal):
    """`retry_after_s` is when the period ends, or soon where others may give something back; 0 is never."""

    status = 429
    kind = "budget_exhausted"
    type = "insufficient_quota"

    def __init__(self, detail: str, *, remedy: str, retry_after_s: int) -> None:
        super().__init__(detail, remedy=remedy)
        self.retry_after_s = retry_after_s


class BudgetUnknown(Refusal):
    """What this gateway was given is used, and the control plane does not answer."""

    status = 503
    kind = "budget_unknown"
    type = "service_unavailable"
    retry_after_s = 5


class TooManyBudgets(Refusal):
    status = 503
    kind = "too_many_budgets"
    type = "server_error"


class QueueFull(Refusal):
    status = 429
    kind = "queue_full"
    type = "rate_limit_error"


class QueueTimeout(Refusal):
    status = 429
    kind = "queue_timeout"
    type = "rate_limit_error"


class BudgetRanOut(Refusal):
    status = 429
    kind = "budget_ran_out"
    type = "insufficient_quota"


def reason_phrase(status: int) -> str:
    return HTTPStatus(status).phrase
