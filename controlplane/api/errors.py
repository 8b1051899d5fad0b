"""The API's one mapping from errors to problem+json (RFC 9457)."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from controlplane.contracts.admin import Problem
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import PolicyDenied
from controlplane.kit.errors import (
    BadInput,
    Denied,
    NotFound,
    NotReady,
    RedoubtError,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from controlplane.web.answers import add_headers, refusal_response, request_id_of
from controlplane.web.denials import record_counts
from controlplane.web.limits import RequestRefused, source_of
from controlplane.web.once import Replay
from controlplane.web.transaction import database_of

log = structlog.get_logger()

LONGEST_PATH = 200  # what an audit event's resource holds
MOST_REASONS = 20
OUR_FAULT = 500
# a fault of ours is told to those who can mend it, in the log; a caller gets the id to find it by
_TO_THE_LOG = "the log of redoubt-api has the reason under the request id; list before you repeat a change"
_NO_ANSWER = Unavailable("the control plane cannot answer this now", remedy=_TO_THE_LOG)
_OUR_ERROR = RedoubtError("an error on our side; nothing was changed", remedy=_TO_THE_LOG)


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(RedoubtError, _on_redoubt_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Replay, _on_replay)
    app.add_exception_handler(Exception, _on_anything_else)


def problem(request: Request, error: RedoubtError) -> Response:
    body = Problem(
        type=f"urn:redoubt:problem:{error.code}",
        title=error.kind.replace("_", " "),
        status=error.status,
        detail=error.detail,
        code=error.code,
        remedy=error.remedy,
        reasons=error.reasons,
        request_id=request_id_of(request.scope),
    )
    return Response(body.model_dump_json(), error.status, _headers(error), media_type="application/problem+json")


def _headers(error: RedoubtError) -> dict[str, str] | None:
    match error:
        case Unauthenticated():
            return {"WWW-Authenticate": "Bearer"}
        case Throttled():
            return {"Retry-After": str(error.wait_s)}
        case _:
            return None


async def _on_redoubt_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RedoubtError):
        raise TypeError(type(error))
    if isinstance(error, Denied | Unauthenticated | Throttled):
        await _record_denial(request, error)
    if error.status >= OUR_FAULT and not isinstance(error, NotReady):
        log.error("request.failed", path=_path_of(request), code=error.code, error=error.detail, next=error.remedy)
        return problem(request, _NO_ANSWER if isinstance(error, Unavailable) else _OUR_ERROR)
    return problem(request, error)


async def _record_denial(request: Request, error: RedoubtError) -> None:
    """The refused request was rolled back, so its denial is written in a transaction of its own."""
    log.info("request.denied", path=_path_of(request), code=error.code, error=error.detail)
    who = getattr(request.state, "actor", NEWCOMER)
    database, counter = database_of(request), request.app.state.denials
    source, now = source_of(request.scope), database.now()
    try:
        await record_counts(database, counter.settle(now))
        if who == NEWCOMER and not counter.note(source, error.code, now):
            return
        async with database.transaction() as tx:
            await audit.record(
                tx, who, "request.denied", _path_of(request), method=request.method, code=error.code, source=source
            )
            if isinstance(error, PolicyDenied):
                await policy.record_denial(tx, who, error)
    except RedoubtError as failure:
        log.warning("denial.unrecorded", path=_path_of(request), error=failure.detail)


def _path_of(request: Request) -> str:
    """Return the path that was routed; `request.url` is partly made of the Host header."""
    return str(request.scope["path"])[:LONGEST_PATH]


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise TypeError(type(error))
    reasons = tuple(f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors())[:MOST_REASONS]
    return problem(request, BadInput(reasons[0], remedy="correct the fields that are named", reasons=reasons))


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(type(error))
    if error.status_code == NotFound.status:
        return problem(request, NotFound("no such route", remedy="see `redoubt --help`", code="no_route"))
    if isinstance(error, RequestRefused):
        why = error.refusal
        return refusal_response(request.scope, why.status, why.code, why.detail, why.remedy)
    body = Problem(
        type="about:blank",
        title=str(error.detail),
        status=error.status_code,
        detail=str(error.detail),
        code="http",
        remedy="see `redoubt --help`",
        request_id=request_id_of(request.scope),
    )
    return Response(body.model_dump_json(), error.status_code, error.headers, media_type="application/problem+json")


async def _on_replay(request: Request, replay: Exception) -> Response:
    del request
    if not isinstance(replay, Replay):
        raise TypeError(type(replay))
    headers = {"Idempotent-Replayed": "true"}
    return Response(replay.body, replay.status, headers, media_type="application/json")


async def _on_anything_else(request: Request, error: Exception) -> Response:
    """Answer what nothing else caught; Starlette sends this one outside the guard, so it brings its own headers."""
    request_id = request_id_of(request.scope)
    log.error("request.failed", path=_path_of(request), error=f"{type(error).__name__}: {error}", request_id=request_id)
    answer = problem(request, _OUR_ERROR)
    add_headers(answer.headers, request.scope)
    return answer
