"""One HTTP request, one transaction, committed before the answer leaves."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from controlplane.kit.tx import Database, Tx
from controlplane.web.answers import request_id_of


def database_of(request: Request) -> Database:
    database = request.app.state.database
    if not isinstance(database, Database):
        raise TypeError("the application was made without a database")
    return database


async def open_transaction(request: Request) -> AsyncIterator[Tx]:
    async with database_of(request).transaction() as tx:
        tx.session.info["request_id"] = request_id_of(request.scope)  # audit writes it into each event
        yield tx


# scope="function": the commit happens before the answer; with the default scope a failing commit would still say 201
Transaction = Annotated[Tx, Depends(open_transaction, scope="function")]
