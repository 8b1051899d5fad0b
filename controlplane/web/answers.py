"""What every answer carries: a request id, headers that a browser obeys, and one form for a refusal."""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from controlplane.contracts.admin import Problem

REQUEST_ID = "X-Request-Id"
# an API's answer is data: nothing in it may run, be framed, be kept or be read by another site; a page sets its own
SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ONE_YEAR = "max-age=31536000"


def request_id_of(scope: Scope) -> str:
    """Return the id that the guard gave; "" where no guard stands."""
    return str(scope.get("state", {}).get("request_id", ""))


def with_headers(send: Send, scope: Scope) -> Send:
    """Add what is missing to the head of the answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            add_headers(MutableHeaders(scope=message), scope)
        await send(message)

    return sent


def add_headers(headers: MutableHeaders, scope: Scope) -> None:
    """Set what no handler decides, and leave what one did."""
    for name, value in SAFE.items():
        headers.setdefault(name, value)
    if scope["scheme"] == "https":
        headers.setdefault("Strict-Transport-Security", ONE_YEAR)
    headers[REQUEST_ID] = request_id_of(scope)


def refusal_response(scope: Scope, status: int, code: str, detail: str, remedy: str) -> Response:
    """Answer a request whose head or body was refused, and end its connection: the rest of it is not read."""
    body = Problem(
        type=f"urn:redoubt:problem:{code}",
        title="malformed",
        status=status,
        detail=detail,
        code=code,
        remedy=remedy,
        request_id=request_id_of(scope),
    )
    return Response(body.model_dump_json(), status, {"Connection": "close"}, "application/problem+json")
