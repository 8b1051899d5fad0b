"""One request, one transaction."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast  # `Any`: connect arguments belong to the driver

from sqlalchemy import ARRAY, CollectionAggregate, CursorResult, MetaData, String, UpdateBase, any_, literal
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from controlplane.kit.clock import Clock
from controlplane.kit.errors import BadInput, RedoubtError, Unavailable

CONSTRAINT_NAMES = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    """Base of every mapped class."""

    metadata = MetaData(naming_convention=CONSTRAINT_NAMES)


@dataclass(frozen=True)
class Tx:
    """An open transaction and the one time that everything in it happened at."""

    session: AsyncSession
    now: datetime


BeforeCommit = Callable[[Tx], Awaitable[None]]
AfterCommit = Callable[[Tx], None]


async def changed_one(tx: Tx, statement: UpdateBase) -> bool:
    """Do an UPDATE, INSERT or DELETE and say whether it changed one row: of two who use one thing up, one did."""
    done = await tx.session.execute(statement)
    return cast("CursorResult[object]", done).rowcount == 1  # those three always give a CursorResult


def any_of(words: Collection[str]) -> CollectionAggregate[bool]:
    """Return what a column is compared with: one parameter for all, because the driver takes 32,767 at the most."""
    return any_(literal(list(words), ARRAY(String)))


class Database:
    """Opens transactions. Nothing else commits.

    `facts` are found in every `tx.session.info`. A hook added with `before_commit` sees everything flushed and stops
    the commit by raising; one added with `after_commit` is told what is now true, and must not fail.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        tls: ssl.SSLContext | None = None,
        pool: int = 10,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        arguments: dict[str, Any] = {"timeout": 5, "command_timeout": 30}
        if tls is not None:
            arguments["ssl"] = tls
        self._clock = clock
        self._engine = create_async_engine(
            url, hide_parameters=True, pool_size=pool, pool_pre_ping=True, connect_args=arguments
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, info=dict(facts or {}))
        self._before_commit: list[BeforeCommit] = []
        self._after_commit: list[AfterCommit] = []

    def before_commit(self, hook: BeforeCommit) -> None:
        self._before_commit.append(hook)

    def after_commit(self, hook: AfterCommit) -> None:
        self._after_commit.append(hook)

    def now(self) -> datetime:
        """Return the time that a transaction opened now would have."""
        return self._clock.now()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Commit when the block ends well, roll back when it raises; raises Unavailable without a server.

        One kind of refusal is committed too: see `RedoubtError.keeps_changes`.
        """
        try:
            async with self._sessions() as session:
                tx = Tx(session, self._clock.now())
                try:
                    yield tx
                except RedoubtError as refusal:
                    if refusal.keeps_changes:
                        await self._commit(tx)
                    raise
                await self._commit(tx)
        except (OSError, TimeoutError, PoolTimeout, OperationalError) as error:
            raise _unavailable(error) from error
        except DBAPIError as error:
            if _is_bad_value(error):
                raise BadInput(
                    "a value is not one that can be kept", remedy="correct it: no NUL, no huge number"
                ) from error
            if not error.connection_invalidated and not _is_shutdown(error):
                raise
            raise _unavailable(error) from error

    async def _commit(self, tx: Tx) -> None:
        if self._before_commit:
            await tx.session.flush()
        for hook in self._before_commit:
            await hook(tx)
        await tx.session.commit()
        for told in self._after_commit:
            told(tx)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Open a bare connection, for migrations; raises Unavailable without a server."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except (OSError, TimeoutError, PoolTimeout, OperationalError) as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        await self._engine.dispose()


def _is_bad_value(error: DBAPIError) -> bool:
    """Say whether the value itself is what the database refuses (class 22: data exception), as it does a NUL."""
    return str(getattr(error.orig, "sqlstate", "")).startswith("22")


def _is_shutdown(error: DBAPIError) -> bool:
    state = str(getattr(error.orig, "sqlstate", ""))
    return state.startswith(("08", "57P"))


def _unavailable(error: BaseException) -> Unavailable:
    return Unavailable(
        f"the database does not answer ({type(error).__name__})",
        remedy="look at the postgres service on the database node; then list before you repeat a change",
        code="database_unavailable",
    )
