"""/v1/batches: create, list, show and cancel. What does the work is leader.py, in one worker of the node."""

import re
from functools import partial
from typing import Annotated, Final

import msgspec
import structlog

from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.file_verbs import find_file
from controlplane.gateway.batch.limits import HOUR_S
from controlplane.gateway.batch.records import BATCH_ID, BatchRecord, Creator, new_batch_id, to_batch
from controlplane.gateway.batch.refusals import InTheWay, NotKept, TooMany
from controlplane.gateway.batch.shapes import page, read_ask
from controlplane.gateway.batch.visit import Visit
from controlplane.gateway.errors import BadRequest, KeyNotForThis

log = structlog.get_logger()

ENDPOINTS: Final = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/score",
    "/v1/messages",
)  # fmt: skip
_MOST_LISTED = 100
_FILES_OF_A_BATCH = 2  # its input and log, and then answers and errors
_WINDOW = re.compile(r"([1-9][0-9]{0,2})h")
_REMEDY = "see the OpenAI batches reference for the fields and their types"


class OutputExpiry(msgspec.Struct, forbid_unknown_fields=True):
    anchor: str
    seconds: int


_Text = Annotated[str, msgspec.Meta(max_length=512)]


class CreateBatch(msgspec.Struct, forbid_unknown_fields=True):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: (
        Annotated[dict[Annotated[str, msgspec.Meta(max_length=64)], _Text], msgspec.Meta(max_length=16)] | None
    ) = None
    output_expires_after: OutputExpiry | None = None


async def create(archive: Archive, visit: Visit, _name: str) -> None:
    archive.must_keep(visit.directory, visit.grant)
    ask = _read(await visit.receive_all(archive.limits.ask_bytes))
    file = await find_file(archive, visit, ask.input_file_id)
    if file.purpose != "batch":
        raise BadRequest("the file was not uploaded for a batch", remedy="use purpose: batch", param="input_file_id")
    if file.classification > visit.terms.classification:
        detail = "the file holds data above what this request says"
        raise KeyNotForThis(detail, remedy="send X-Redoubt-Classification as with the file", code="classification")
    if await archive.run(archive.batches.unfinished, file.project) >= archive.limits.project_batches:
        raise TooMany("the project has as many batches under way as it may", remedy="wait until one is over")
    if await archive.run(archive.batches.kept, file.project) >= archive.limits.project_batches_kept:
        raise TooMany("as many batches of the project are kept as may be", remedy="wait until old ones expire")
    await archive.run(archive.files.check_room, file.project, 0, files=_FILES_OF_A_BATCH)
    record = _record(archive, visit, ask)
    try:
        await archive.run(archive.batches.create, record)
    except FileNotFoundError:
        raise NotKept("the file was deleted", remedy="upload it again", param="input_file_id") from None
    log.info("batch.created", batch=record.id, project=record.project, key=visit.grant.key_id)
    await visit.answer(200, msgspec.json.encode(to_batch(record)))


async def list_batches(archive: Archive, visit: Visit, _name: str) -> None:
    ask = read_ask(visit.query, BATCH_ID, most=_MOST_LISTED, shown=_MOST_LISTED)
    project = visit.grant.project
    find = partial(archive.batches.find, project)
    rows, has_more = await archive.run(lambda: ask.cut(archive.batches.names(project), find))
    await visit.answer(200, page([to_batch(row) for row in rows], rows, has_more=has_more))


async def show(archive: Archive, visit: Visit, name: str) -> None:
    await visit.answer(200, msgspec.json.encode(to_batch(await _find(archive, visit, name))))


async def cancel(archive: Archive, visit: Visit, name: str) -> None:
    """Take no more of its lines up; those under way finish, and what is done is kept."""
    await visit.receive_all(archive.limits.ask_bytes)
    record = await _find(archive, visit, name)
    if record.status not in {"validating", "in_progress", "cancelling"}:
        raise InTheWay(f"the batch is {record.status}", remedy="only one that is under way can be cancelled")
    await archive.run(archive.batches.ask_to_cancel, record)
    log.info("batch.cancel_asked", batch=record.id, project=record.project, key=visit.grant.key_id)
    shown = msgspec.structs.replace(record, status="cancelling", cancelling_at=record.cancelling_at or archive.now_s())
    await visit.answer(200, msgspec.json.encode(to_batch(shown)))


async def _find(archive: Archive, visit: Visit, name: str) -> BatchRecord:
    found = None
    if BATCH_ID.fullmatch(name):
        found = await archive.run(archive.batches.find, visit.grant.project, name)
    if found is None:
        detail = f"no batch {name[:60]!r} is kept here"
        raise NotKept(detail, remedy="list batches with GET /v1/batches; each gateway has its own", param="batch_id")
    return found


def _read(body: bytes) -> CreateBatch:
    try:
        body.decode()
        ask = msgspec.json.decode(body, type=CreateBatch)
    except (ValueError, RecursionError) as error:
        raise BadRequest(str(error)[:300], remedy=_REMEDY) from None
    if ask.endpoint not in ENDPOINTS:
        raise BadRequest(f"endpoint is none of {', '.join(ENDPOINTS)}", remedy="send one of them", param="endpoint")
    return ask


def _record(archive: Archive, visit: Visit, ask: CreateBatch) -> BatchRecord:
    now_s, work = archive.now_s(), visit.head.work
    creator = Creator(
        key_id=visit.grant.key_id,
        source=visit.source,
        purpose=visit.terms.purpose,
        classification=visit.terms.classification,
        workflow=work.workflow,
        agent=work.agent,
        run=work.run,
        step=work.step,
    )
    return BatchRecord(
        id=new_batch_id(now_s),
        project=visit.grant.project,
        creator=creator,
        endpoint=ask.endpoint,
        input_file_id=ask.input_file_id,
        completion_window=ask.completion_window,
        output_kept_s=_output_kept_s(archive, ask.output_expires_after),
        created_at=now_s,
        expires_at=now_s + _window_s(archive, ask.completion_window),
        metadata=ask.metadata,
    )


def _window_s(archive: Archive, window: str) -> int:
    """Return how long a batch may take: OpenAI's 24h, or any number of hours up to the longest."""
    found = _WINDOW.fullmatch(window)
    longest_s = archive.limits.longest_window_s
    if found is None or int(found[1]) * HOUR_S > longest_s:
        detail = f"completion_window is hours, 1h to {longest_s // HOUR_S}h"
        raise BadRequest(detail, remedy="send 24h", param="completion_window")
    return int(found[1]) * HOUR_S


def _output_kept_s(archive: Archive, asked: OutputExpiry | None) -> int:
    limits = archive.limits
    if asked is None:
        return limits.most_kept_s
    if asked.anchor != "created_at" or not limits.least_kept_s <= asked.seconds <= limits.most_kept_s:
        detail = f"output_expires_after is created_at and {limits.least_kept_s} to {limits.most_kept_s} seconds"
        raise BadRequest(detail, remedy="send such, or leave it out", param="output_expires_after")
    return asked.seconds
