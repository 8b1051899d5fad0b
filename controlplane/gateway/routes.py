"""Every answer that needs no replica."""

from controlplane.gateway import answer
from controlplane.gateway.errors import MethodNotAllowed, Refusal, UnknownRoute
from controlplane.gateway.head import Head
from controlplane.gateway.hub import Hub
from controlplane.gateway.surface.chat import Chat
from controlplane.gateway.surface.surface import Surface

SURFACES: dict[bytes, Surface] = {surface.path: surface for surface in (Chat(),)}
MODELS = b"/v1/models"
ALIVE = b"/livez"
READY = b"/readyz"

_METHODS = {**dict.fromkeys(SURFACES, b"POST, OPTIONS"), **dict.fromkeys((MODELS, ALIVE, READY), b"GET, HEAD, OPTIONS")}


def answer_small(hub: Hub, head: Head, source: str, request_id: bytes, *, keep_alive: bool) -> bytes:
    """Return the whole answer to anything that needs no replica."""
    head_only = head.method == b"HEAD"
    try:
        methods = _METHODS.get(head.path)
        if methods is None:
            raise UnknownRoute("there is no such route here", remedy="use /v1/models or /v1/chat/completions")
        if head.method == b"OPTIONS":
            return answer.no_content(request_id, b"allow: %b\r\n" % methods, keep_alive=keep_alive)
        if head.method.decode() not in methods.decode().split(", "):
            raise MethodNotAllowed(f"{head.method.decode()} is not allowed here", remedy=f"use {methods.decode()}")
        body = _body(hub, head, source)
    except Refusal as refusal:
        return answer.refused(refusal, request_id, keep_alive=keep_alive, head_only=head_only)
    return answer.small(200, request_id, body, keep_alive=keep_alive, head_only=head_only)


def _body(hub: Hub, head: Head, source: str) -> bytes:
    if head.path == ALIVE:
        return b'{"status":"alive"}'
    now = hub.clock.now()
    directory = hub.directory(now)
    if head.path == READY:
        return b'{"status":"ready","snapshot_version":%d}' % directory.version
    return directory.listing(directory.admit(head.authorization, source, now))
