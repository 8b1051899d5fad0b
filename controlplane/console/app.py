"""Adds the pages to the admin application: their routes, their static files, and refusals that a person can read."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path
from typing import Any  # Starlette's own type of a handler's error
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import Scope

from controlplane.console import enrol, oauth, security, sign_in, step_up
from controlplane.console.page import HOME, Form, go, local_path, page
from controlplane.domains.policy.types import StepUpRequired
from controlplane.kit.errors import RedoubtError
from controlplane.web.browser import READING, SignInFirst

Handler = Callable[[Request, Any], Response | Awaitable[Response]]
PAGES, DATA = "console", "console-data"
STATIC = Path(__file__).with_name("static")


@dataclass(frozen=True)
class Told:
    """What a page says of a refusal: what the API would have said, and no more."""

    detail: str
    remedy: str
    request_id: str


# a page that is shown again with what went wrong, so that nobody has to start over
AGAIN = {
    "/sign-in": sign_in.sign_in_page,
    "/sign-in/second": sign_in.second_page,
    "/step-up": step_up.step_up_page,
    "/security/totp/confirmation": security.confirm_page,
    "/enrol": enrol.enrol_page,
    "/device": oauth.device_page,
    "/enrol/confirmation": enrol.confirm_page,
}


def add_console(app: FastAPI) -> None:
    """Add the pages; the application must have its error handlers, for pages say what those say."""
    for router in (sign_in, step_up, security, enrol, oauth):
        app.include_router(router.router, include_in_schema=False)
    app.include_router(oauth.open_router, include_in_schema=False)
    for router in (sign_in, step_up, security):
        app.include_router(router.data, include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC), name="static")
    for kind in (RedoubtError, RequestValidationError):
        app.add_exception_handler(kind, _for_people(app.exception_handlers[kind]))


class _Static(StaticFiles):
    """Public files that a browser may keep for an hour."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        answer = super().file_response(*args, **kwargs)  # type: ignore[arg-type]  # handed on as they came
        answer.headers["Cache-Control"] = "public, max-age=3600"
        return answer


def _for_people(plain: Handler) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Say on a page what the API says in JSON; its handler has recorded the denial by then."""

    async def handler(request: Request, error: Exception) -> Response:
        said = plain(request, error)
        answer = await said if isawaitable(said) else said
        tags = _tags(request.scope)
        if PAGES in tags:
            return await _page_of(request, error, answer)
        if DATA in tags:
            return _data_of(request, error, answer)
        return answer

    return handler


def _tags(scope: Scope) -> set[str]:
    return set(getattr(scope.get("route"), "tags", None) or ())


async def _page_of(request: Request, error: Exception, answer: Response) -> Response:
    path = str(request.scope["path"])
    way = _way_out(request, error, path if request.method in READING else "")
    if way:
        return go(way)
    told = _told(answer)
    if path in AGAIN and request.method not in READING:
        form = await _form_of(request)
        return _with_hints(AGAIN[path](request, status=answer.status_code, error=told, form=form), answer)
    back = "/sign-in" if isinstance(error, SignInFirst) else HOME
    return _with_hints(page(request, "problem.html", status=answer.status_code, error=told, back=back), answer)


def _data_of(request: Request, error: Exception, answer: Response) -> Response:
    """Tell the script where to go, if the way out is another page: the one it stands on is where it comes back to."""
    way = _way_out(request, error, "")
    if not way:
        return answer
    return JSONResponse({"go": way}, answer.status_code)


def _way_out(request: Request, error: Exception, back: str) -> str:
    wanted = quote(local_path(_with_query(request, back)) if back else HOME, safe="/")
    if isinstance(error, SignInFirst):
        return f"/sign-in?next={wanted}"
    if isinstance(error, StepUpRequired):
        return f"/step-up?next={wanted}"
    return ""


def _with_query(request: Request, path: str) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


async def _form_of(request: Request) -> Form:
    """Return what was typed, where it could be read; the request has it already."""
    try:
        return dict(await request.form())
    except HTTPException:
        return {}


def _told(answer: Response) -> Told:
    said = json.loads(bytes(answer.body))
    return Told(str(said["detail"]), str(said["remedy"]), str(said.get("request_id", "")))


def _with_hints(page_answer: Response, answer: Response) -> Response:
    if "retry-after" in answer.headers:
        page_answer.headers["Retry-After"] = answer.headers["retry-after"]
    return page_answer
