"""/v1/files: take a file in while it arrives, list, show, send and delete."""

from collections.abc import Iterator
from functools import partial

import msgspec
import structlog

from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.form import Form
from controlplane.gateway.batch.records import FILE_ID, FileRecord, new_file_id, to_file
from controlplane.gateway.batch.refusals import NotKept, TooMany
from controlplane.gateway.batch.sealed import SealedWriter
from controlplane.gateway.batch.shapes import Deleted, page, read_ask, small_number
from controlplane.gateway.batch.visit import Visit
from controlplane.gateway.errors import BadRequest, BodyTooLarge, KeyNotForThis

log = structlog.get_logger()

_MOST_ASKED = 10_000  # as OpenAI's; clients go on where there is more
_MOST_SHOWN = 1_000


async def upload(archive: Archive, visit: Visit, _name: str) -> None:
    archive.must_keep(visit.directory, visit.grant)
    form = Form(visit.content_type, archive.limits)
    _check_size(archive, visit.head.length - archive.limits.form_bytes)
    if archive.uploads >= archive.limits.uploads:
        raise TooMany("too many files are being uploaded", remedy="try again in a little while")
    archive.uploads += 1
    try:
        record = await _take_in(archive, visit, form)
    finally:
        archive.uploads -= 1
    log.info("file.kept", file=record.id, project=record.project, key=visit.grant.key_id, bytes=record.bytes)
    await visit.answer(200, msgspec.json.encode(to_file(record)))


async def list_files(archive: Archive, visit: Visit, _name: str) -> None:
    query = visit.query
    ask = read_ask(query, FILE_ID, most=_MOST_ASKED, shown=_MOST_SHOWN)
    project, purpose, now_s = visit.grant.project, query.get("purpose"), archive.now_s()

    def load(name: str) -> FileRecord | None:
        row = archive.files.find(project, name, now_s)
        fits = row is not None and purpose in (None, row.purpose) and row.classification <= visit.grant.classification
        return row if fits else None

    rows, has_more = await archive.run(lambda: ask.cut(archive.files.names(project), load))
    await visit.answer(200, page([to_file(row) for row in rows], rows, has_more=has_more))


async def show(archive: Archive, visit: Visit, name: str) -> None:
    await visit.answer(200, msgspec.json.encode(to_file(await find_file(archive, visit, name))))


async def delete(archive: Archive, visit: Visit, name: str) -> None:
    """Forget a file; a batch at work on it keeps what it needs until its own end."""
    record = await find_file(archive, visit, name)
    await archive.run(archive.files.delete, record.project, record.id)
    log.info("file.deleted", file=record.id, project=record.project, key=visit.grant.key_id)
    await visit.answer(200, msgspec.json.encode(Deleted(record.id)))


async def content(archive: Archive, visit: Visit, name: str) -> None:
    record = await find_file(archive, visit, name)
    parts = archive.files.read(record.project, record.id)
    part = await archive.run(_next, parts)  # the first before the head: what cannot be read is refused
    log.info("file.read", file=record.id, project=record.project, key=visit.grant.key_id)
    await visit.send(visit.content_head(record.bytes))
    if visit.head.method == b"HEAD":
        return
    while part is not None:
        visit.moves_on(archive.limits.answer_silence_s)
        await visit.send(part)
        part = await archive.run(_next, parts)


async def find_file(archive: Archive, visit: Visit, name: str) -> FileRecord:
    """Return a file of the caller's project. Raises NotKept, KeyNotForThis."""
    found = None
    if FILE_ID.fullmatch(name):
        found = await archive.run(archive.files.find, visit.grant.project, name, archive.now_s())
    if found is None:
        detail = f"no file {name[:60]!r} is kept here"
        raise NotKept(detail, remedy="list files with GET /v1/files; each gateway has its own", param="file_id")
    if found.classification > visit.grant.classification:
        detail = "the file holds data above what this key may carry"
        raise KeyNotForThis(detail, remedy="use a key of that classification", code="classification_not_allowed")
    return found


async def _take_in(archive: Archive, visit: Visit, form: Form) -> FileRecord:
    project, file_id = visit.grant.project, new_file_id(archive.now_s())
    wanted = min(visit.head.length or archive.limits.file_bytes, archive.limits.file_bytes)
    visit.ends_s = visit.hub.tick + archive.limits.upload_s
    visit.moves_on(archive.limits.upload_silence_s)
    begin = partial(archive.files.begin_upload, project, file_id, wanted)
    writer = await archive.open(begin, SealedWriter.discard)
    try:
        await _write(archive, visit, form, writer)
        record = _record(archive, visit, form, file_id, writer.size)
        await archive.run(archive.files.commit, writer, record)
    finally:
        await archive.run(writer.discard)
    return record


async def _write(archive: Archive, visit: Visit, form: Form, writer: SealedWriter) -> None:
    while data := await visit.receive():
        visit.moves_on(archive.limits.upload_silence_s)
        part = form.feed(data)
        _check_size(archive, writer.size + len(part))
        if part:
            await archive.run(writer.write, part)


def _record(archive: Archive, visit: Visit, form: Form, file_id: str, size: int) -> FileRecord:
    """Return what is said of an upload once all of it is here. Raises BadRequest."""
    remedy = "send multipart/form-data with the fields purpose and file, as OpenAI's clients do"
    if not form.is_whole or not form.filename:
        raise BadRequest("the form holds no whole file", remedy=remedy, param="file")
    if form.fields.get("purpose") != "batch":
        raise BadRequest("files are kept for batches alone", remedy="send the field purpose: batch", param="purpose")
    _check_size(archive, size)
    now_s = archive.now_s()
    return FileRecord(
        id=file_id,
        project=visit.grant.project,
        filename=form.filename,
        bytes=size,
        purpose="batch",
        classification=visit.terms.classification,
        created_at=now_s,
        expires_at=now_s + _kept_s(archive, form.fields),
    )


def _kept_s(archive: Archive, fields: dict[str, str]) -> int:
    limits = archive.limits
    asked = fields.get("expires_after[seconds]")
    if asked is None:
        return limits.most_kept_s
    if fields.get("expires_after[anchor]", "created_at") != "created_at":
        raise BadRequest("a file expires by created_at alone", remedy="send that", param="expires_after[anchor]")
    seconds = small_number(asked)
    if seconds is None or not limits.least_kept_s <= seconds <= limits.most_kept_s:
        detail = f"expires_after[seconds] is not from {limits.least_kept_s} to {limits.most_kept_s}"
        raise BadRequest(detail, remedy="send such a number", param="expires_after[seconds]")
    return seconds


def _check_size(archive: Archive, size: int) -> None:
    most = archive.limits.file_bytes
    if size > most:
        raise BodyTooLarge(f"the file is over {most} bytes", remedy="split it into several batches", param="file")


def _next(parts: Iterator[bytes]) -> bytes | None:
    return next(parts, None)
