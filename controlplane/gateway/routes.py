"""Every answer that needs no replica."""

from controlplane.gateway import answer
from controlplane.gateway.errors import MethodNotAllowed, Refusal, UnknownRoute
from controlplane.gateway.head import Head
from controlplane.gateway.hub import Hub
from controlplane.gateway.routing.explain import EXPLAIN
from controlplane.gateway.surface.chat import Chat
from controlplane.gateway.surface.completions import Completions
from controlplane.gateway.surface.embeddings import Embeddings
from controlplane.gateway.surface.messages import CountTokens, Messages
from controlplane.gateway.surface.rerank import Rerank, Score
from controlplane.gateway.surface.responses import InputTokens, Responses
from controlplane.gateway.surface.surface import Surface
from controlplane.gateway.surface.tokenize import Tokenize

_SERVED: tuple[Surface, ...] = (
    Chat(), Completions(), Responses(), InputTokens(), Embeddings(), Rerank(), Score(), Tokenize(), Messages(),
    CountTokens(), EXPLAIN,
)  # fmt: skip
SURFACES = {surface.path: surface for surface in _SERVED}
MODELS = b"/v1/models"
_ONE_MODEL = b"/v1/models/"
ALIVE = b"/livez"
READY = b"/readyz"

_METHODS = {**dict.fromkeys(SURFACES, b"POST, OPTIONS"), **dict.fromkeys((MODELS, ALIVE, READY), b"GET, HEAD, OPTIONS")}
_PATHS = ", ".join(path.decode() for path in (MODELS, *SURFACES))


def answer_small(hub: Hub, head: Head, source: str, request_id: bytes, *, keep_alive: bool) -> bytes:
    """Return the whole answer to anything that needs no replica."""
    head_only = head.method == b"HEAD"
    try:
        methods = _METHODS[MODELS] if head.path.startswith(_ONE_MODEL) else _METHODS.get(head.path)
        if methods is None:
            raise UnknownRoute("there is no such route here", remedy=f"use one of {_PATHS}")
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
    grant = directory.admit(head.authorization, source, now)
    if head.path == MODELS:
        return directory.listing(grant)
    return directory.find(grant, head.path.removeprefix(_ONE_MODEL).decode("latin-1")).listed
