"""What every request is held against before anybody asks who sent it: sizes, time, names, one credential."""

import asyncio
import re
from dataclasses import dataclass

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane.kit.ids import new_id
from controlplane.web.answers import refusal_response, with_headers

log = structlog.get_logger()

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
# NUL and other control characters, and the separator of another system: no name of ours holds one
UNCLEAN = re.compile(r"[\x00-\x1f\x7f\\]")
HOST = re.compile(r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"x-auth-token"})
SESSION_COOKIE = re.compile(rb"(?:^|;)\s*__Host-[\w.-]*=")
SINGLE = frozenset({b"host", b"content-length", b"content-type", b"transfer-encoding", b"idempotency-key", b"origin"})


@dataclass(frozen=True)
class Limits:
    """Bytes and seconds of one request. The parser has its own: `web.peer` ends a connection whose head is too much."""

    body_bytes: int = 1 << 20
    body_s: float = 20.0
    path_bytes: int = 1024
    query_bytes: int = 4096
    headers: int = 64
    header_bytes: int = 16 << 10


@dataclass(frozen=True)
class Refusal:
    """Why a request goes no further. The client learns the fact, the log its request id."""

    status: int
    code: str
    detail: str
    remedy: str


class RequestRefused(HTTPException):
    """Raised while a body is read, through whatever reads it: frameworks let this one pass."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status, refusal.detail, {"Connection": "close"})
        self.refusal = refusal


TOO_MUCH_BODY = Refusal(413, "body_too_large", "the body is larger than this site takes", "send less at a time")
TOO_SLOW = Refusal(408, "body_too_slow", "the body did not arrive in time", "send it again")
BAD_HOST = Refusal(400, "bad_host", "the Host header is not a name of this site", "use the address of the profile")
TWO_CREDENTIALS = Refusal(
    400, "several_credentials", "more than one credential was sent", "send one: a bearer token or a session cookie"
)
TWICE = Refusal(400, "header_twice", "a header that may come once came twice", "send it once")
BAD_PATH = Refusal(400, "bad_path", "the path holds a character that no name has", "quote names, and only names")
PATH_LENGTH = Refusal(414, "path_too_long", "the path is too long", "use the id of the thing")
QUERY_LENGTH = Refusal(414, "query_too_long", "the query is too long", "ask for less")
HEAD_SIZE = Refusal(431, "head_too_large", "too many or too large headers", "send fewer")
NO_METHOD = Refusal(405, "method", "this method is not served", "use GET, POST, PUT, PATCH or DELETE")


class Guard:
    """The outermost part of each application. Every answer that passes it has a request id and safe headers."""

    def __init__(self, app: ASGIApp, names: frozenset[str], limits: Limits | None = None) -> None:
        self._app = app
        self._names = names
        self._limits = limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # a websocket is closed by a server that gets no answer
        request_id = new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            return await self._serve(scope, receive, with_headers(send, scope))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = find_refusal(scope, self._names, self._limits)
        if refusal is None:
            await self._app(scope, _bounded(receive, self._limits), send)
            return
        log.info("request.refused", path=scope["path"][:200], code=refusal.code, source=source_of(scope))
        answer = refusal_response(scope, refusal.status, refusal.code, refusal.detail, refusal.remedy)
        await answer(scope, receive, send)


def source_of(scope: Scope) -> str:
    """Return the client's address; "" on a unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def find_refusal(scope: Scope, names: frozenset[str], limits: Limits) -> Refusal | None:
    """Judge a request's head alone; None lets it in."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return (
        _find_size(scope, headers, limits)
        or (NO_METHOD if scope["method"] not in METHODS else None)
        or (BAD_PATH if UNCLEAN.search(scope["path"]) or "/../" in f"{scope['path']}/" else None)
        or _find_host(headers, names)
        or _find_repetition(headers)
    )


def _find_size(scope: Scope, headers: list[tuple[bytes, bytes]], limits: Limits) -> Refusal | None:
    if len(scope["path"].encode(errors="replace")) > limits.path_bytes:
        return PATH_LENGTH
    if len(scope["query_string"]) > limits.query_bytes:
        return QUERY_LENGTH
    if len(headers) > limits.headers or sum(len(k) + len(v) for k, v in headers) > limits.header_bytes:
        return HEAD_SIZE
    declared = [value for name, value in headers if name == b"content-length"]
    if any(not value.isdigit() or int(value[:20]) > limits.body_bytes for value in declared):
        return TOO_MUCH_BODY
    return None


def _find_host(headers: list[tuple[bytes, bytes]], names: frozenset[str]) -> Refusal | None:
    given = [value.decode("latin-1") for name, value in headers if name == b"host"]
    match = HOST.fullmatch(given[0]) if len(given) == 1 else None
    return None if match and match["name"].lower().rstrip(".").strip("[]") in names else BAD_HOST


def _find_repetition(headers: list[tuple[bytes, bytes]]) -> Refusal | None:
    credentials = sum(name in CREDENTIALS for name, _ in headers)
    cookies = sum(len(SESSION_COOKIE.findall(value)) for name, value in headers if name == b"cookie")
    if credentials + cookies > 1:
        return TWO_CREDENTIALS
    single = [name for name, _ in headers if name in SINGLE]
    if len(single) != len(set(single)) or {b"content-length", b"transfer-encoding"} <= set(single):
        return TWICE
    return None


def _bounded(receive: Receive, limits: Limits) -> Receive:
    """Count a body while it streams, chunked ones too, against one allowance of bytes and one of seconds."""
    taken, over = 0, False
    deadline = asyncio.get_running_loop().time() + limits.body_s

    async def bounded() -> Message:
        nonlocal taken, over
        if over:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            log.info("request.refused", code=TOO_SLOW.code)
            raise RequestRefused(TOO_SLOW) from None
        taken += len(message.get("body", b""))
        over = not message.get("more_body", False)
        if taken > limits.body_bytes:
            log.info("request.refused", code=TOO_MUCH_BODY.code)
            raise RequestRefused(TOO_MUCH_BODY)
        return message

    return bounded
