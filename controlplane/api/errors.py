"""The API's one mapping from errors to problem+json (RFC 9457)."""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from controlplane.contracts.admin import Problem
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER, Actor
from controlplane.kit.errors import BadInput, Denied, NotFound, RedoubtError, Unauthenticated
from controlplane.web.once import Replay
from controlplane.web.transaction import database_of

log = structlog.get_logger()

LONGEST_PATH = 200  # what an audit event's resource holds


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(RedoubtError, _on_redoubt_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Replay, _on_replay)
    app.add_exception_handler(Exception, _on_anything_else)


def problem(error: RedoubtError) -> Response:
    body = Problem(
        type=f"urn:redoubt:problem:{error.code}",
        title=error.kind.replace("_", " "),
        status=error.status,
        detail=error.detail,
        code=error.code,
        remedy=error.remedy,
        reasons=error.reasons,
    )
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else None
    return Response(body.model_dump_json(), error.status, headers, media_type="application/problem+json")


async def _on_redoubt_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RedoubtError):
        raise TypeError(type(error))
    if isinstance(error, Denied | Unauthenticated):
        await _record_denial(request, error)
    return problem(error)


async def _record_denial(request: Request, error: RedoubtError) -> None:
    """The refused request was rolled back, so its denial is written in a transaction of its own."""
    actor = getattr(request.state, "actor", NEWCOMER)
    try:
        async with database_of(request).transaction() as tx:
            who = actor if isinstance(actor, Actor) else NEWCOMER
            path = request.url.path.replace("\0", "?")[:LONGEST_PATH]
            await audit.record(tx, who, "request.denied", path, method=request.method, code=error.code)
    except RedoubtError as failure:
        log.warning("denial.unrecorded", path=request.url.path, error=failure.detail)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, RequestValidationError):
        raise TypeError(type(error))
    reasons = tuple(f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors())
    return problem(BadInput(reasons[0], remedy="correct the fields that are named", reasons=reasons))


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(type(error))
    if error.status_code == NotFound.status:
        return problem(NotFound(f"no route {request.url.path}", remedy="see /openapi.json", code="no_route"))
    body = Problem(
        type="about:blank",
        title=str(error.detail),
        status=error.status_code,
        detail=f"{request.method} {request.url.path}: {error.detail}",
        code="http",
        remedy="see /openapi.json",
    )
    return Response(body.model_dump_json(), error.status_code, error.headers, media_type="application/problem+json")


async def _on_replay(request: Request, replay: Exception) -> Response:
    del request
    if not isinstance(replay, Replay):
        raise TypeError(type(replay))
    headers = {"Idempotent-Replayed": "true"}
    return Response(replay.body, replay.status, headers, media_type="application/json")


async def _on_anything_else(request: Request, error: Exception) -> Response:
    log.error("request.failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
    return problem(RedoubtError("an error on our side; nothing was changed", remedy="look at the log of redoubt-api"))
