"""Who may do what with files and batches: the routes, and the one admission that they share."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from controlplane.gateway import answer
from controlplane.gateway.batch import batch_verbs, file_verbs
from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.content_key import refused
from controlplane.gateway.batch.visit import Lender, Visit
from controlplane.gateway.errors import MethodNotAllowed, Refusal, UnknownRoute
from controlplane.gateway.head import Head
from controlplane.gateway.hub import Hub
from controlplane.kit.clock import to_us

Verb = Callable[[Archive, Visit, str], Awaitable[None]]

PREFIXES: Final = (b"/v1/files", b"/v1/batches")
_ROUTES: Final[tuple[tuple[re.Pattern[bytes], dict[bytes, Verb]], ...]] = (
    (re.compile(rb"/v1/files"), {b"POST": file_verbs.upload, b"GET": file_verbs.list_files}),
    (re.compile(rb"/v1/files/([^/]+)"), {b"GET": file_verbs.show, b"DELETE": file_verbs.delete}),
    (re.compile(rb"/v1/files/([^/]+)/content"), {b"GET": file_verbs.content}),
    (re.compile(rb"/v1/batches"), {b"POST": batch_verbs.create, b"GET": batch_verbs.list_batches}),
    (re.compile(rb"/v1/batches/([^/]+)"), {b"GET": batch_verbs.show}),
    (re.compile(rb"/v1/batches/([^/]+)/cancel"), {b"POST": batch_verbs.cancel}),
)
_TAKES_IN: Final = (file_verbs.upload, batch_verbs.create)
_REMEDY = "use /v1/files, /v1/files/{id}, /v1/files/{id}/content, /v1/batches, /v1/batches/{id} or …/cancel"


def answer_visit(
    hub: Hub, transport: asyncio.Transport, lender: Lender, head: Head, raw: bytes, rest: bytes, source: str,
    request_id: bytes,
) -> None:  # fmt: skip
    """Answer one request on a borrowed connection; `raw` is its head, `rest` what came behind it."""
    Visit(hub, transport, lender, head, raw, source, request_id).begin(rest, _serve)


async def _serve(visit: Visit) -> None:
    """Let in who has a key, by the snapshot that is in force now, and answer. Raises Refusal."""
    methods, name = _find(visit.head.path)
    if visit.head.method == b"OPTIONS":
        allow = b"allow: %b\r\n" % b", ".join((*methods, b"OPTIONS"))
        await visit.send(answer.no_content(visit.request_id, allow, keep_alive=visit.keep_alive))
        return
    verb = methods.get(b"GET" if visit.head.method == b"HEAD" else visit.head.method)
    if verb is None:
        allowed = ", ".join(method.decode() for method in methods)
        raise MethodNotAllowed(f"{visit.head.method.decode()} is not allowed here", remedy=f"use {allowed}")
    now = visit.hub.clock.now()
    visit.directory = visit.hub.directory(now)
    try:
        visit.grant = visit.directory.admit(visit.head.authorization, visit.source, now)
        visit.terms = visit.grant.terms(visit.head)
        await verb(_archive(visit.hub, takes_in=verb in _TAKES_IN), visit, name)
    except Refusal as refusal:
        _put_on_record(visit, refusal)
        raise


def _archive(hub: Hub, *, takes_in: bool) -> Archive:
    """Return what keeps files. Raises Refusal without its key: nothing is sealed with a key that may be lost."""
    if hub.content_fault is not None and (takes_in or hub.archive is None):
        raise refused(hub.content_fault)
    if hub.archive is None:
        raise UnknownRoute("this gateway keeps no files", remedy="operators: give it a content_key")
    return hub.archive


def _find(path: bytes) -> tuple[dict[bytes, Verb], str]:
    for pattern, methods in _ROUTES:
        found = pattern.fullmatch(path)
        if found:
            return methods, found[1].decode("latin-1") if pattern.groups else ""
    raise UnknownRoute("there is no such route here", remedy=_REMEDY)


def _put_on_record(visit: Visit, refusal: Refusal) -> None:
    """Write down that a known key was refused: at the door, or over a file that it may not read."""
    hub = visit.hub
    hub.denials.note(
        refusal, visit.directory.owner(visit.head.authorization), visit.directory, request_id=visit.request_id,
        source=visit.source, at_us=to_us(hub.clock.now()), now_s=hub.tick,
    )  # fmt: skip
