"""A POST that is repeated with the same Idempotency-Key happens once and is answered alike."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.audit.types import Actor
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import Conflict
from controlplane.kit.tx import Tx, changed_one
from controlplane.web.actor import Person
from controlplane.web.tables import IdempotentCall
from controlplane.web.transaction import Transaction

KEPT = timedelta(days=1)


class Replay(Exception):
    def __init__(self, status: int, body: str) -> None:
        super().__init__("answered before")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Call:
    """One authenticated POST: its transaction, its actor, and how to answer it."""

    tx: Tx
    actor: Actor
    record: IdempotentCall | None

    def created(self, answer: BaseModel, *, status: int = 201, secret: bool = False) -> Response:
        """Answer, and keep the answer in the same transaction; a secret is not kept."""
        body = answer.model_dump_json()
        if self.record is not None:
            self.record.status, self.record.body = status, "" if secret else body
        return Response(body, status_code=status, media_type="application/json")


async def begin_call(
    request: Request,
    tx: Transaction,
    actor: Person,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Call:
    """Claim the key, or raise Replay with the first answer. A second asker waits for the first one's commit."""
    if idempotency_key is None:
        return Call(tx, actor, None)
    digest = sha256_hex(str(request.scope["path"]).encode() + b"\n" + await request.body())
    await tx.session.execute(delete(IdempotentCall).where(IdempotentCall.at < tx.now - KEPT))
    row = {"actor": actor.id, "key": idempotency_key, "request_sha256": digest, "at": tx.now, "status": 0, "body": ""}
    claimed = await changed_one(tx, insert(IdempotentCall).values(row).on_conflict_do_nothing())
    record = await tx.session.get_one(IdempotentCall, (actor.id, idempotency_key))
    if not claimed:
        _replay(record, digest)
    return Call(tx, actor, record)


def _replay(record: IdempotentCall, digest: str) -> None:
    if record.request_sha256 != digest:
        raise Conflict("this Idempotency-Key came with another request", remedy="use a new key for a new request")
    if not record.body:
        raise Conflict(
            "done before; its answer was shown once and is not kept",
            remedy="if that answer is lost, take back what was made, and ask anew with a new key",
        )
    raise Replay(record.status, record.body)


Posted = Annotated[Call, Depends(begin_call, scope="function")]
