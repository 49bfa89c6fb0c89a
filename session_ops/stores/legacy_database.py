"""A SQL database as a repository uses it: a bounded pool, one statement per call, a deadline for each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from session_ops.errors import OverloadedError, SettingsError, StoreUnavailableError
from session_ops.stores.legacy_dialects import dialect_of
from session_ops.stores.legacy_errors import DEMOTED, STORE, classify
from session_ops.stores.legacy_postgresql import ABANDONED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from session_ops.stores.legacy_dialects import Dialect
    from session_ops.stores.legacy_prepared import Statement

Result = TypeVar("Result")

# Of a call's deadline: what it may wait for a connection, and what a statement may take in the database. Together less
# than the whole, so that on a database that answers at all a call ends with an answer and not with a guess.
_SHARE_OF_POOL = 0.3
_SHARE_OF_STATEMENT = 0.6

_SHARE_OF_LAST = 0.25
"""Of a call's deadline: what must be left of it when its statements begin. One that has spent the rest on connecting
would be given up in the middle, and the new connection with it; so the next call has it."""

_CONNECTING = 2.0
"""Deadlines that a call may take which has no connection yet. Its caller has the answer after one, but who only ever
gave up connecting could not use a database that is slow to connect to (six round trips) and fast enough then."""

SCHEMA_DEADLINE = 600.0
"""Seconds for making the schema: only what changes sessions is bound to the deadline."""


class _Call:
    """How far a call has come."""

    __slots__ = ("_until", "connection", "over", "sent")

    def __init__(self, until: float) -> None:
        """`until`: the last moment (`time.monotonic`) at which statements may begin."""
        self._until = until
        self.sent = False
        self.connection: AsyncConnection | None = None
        self.over = False
        """The caller has been told that nothing happened."""

    def begin(self, connection: AsyncConnection) -> None:
        """Say that statements are sent from now on, over `connection`. Raises where it is too late for that."""
        if self.over or time.monotonic() > self._until:
            raise StoreUnavailableError(STORE, "timeout")
        self.connection, self.sent = connection, True


class _Lines:
    """A bounded pool of connections that serves its callers in turn.

    SQLAlchemy's own pool wakes whoever waits and lets whoever comes meanwhile take the connection: with 50 callers on 8
    connections one in fifty waited until its time was up.
    """

    def __init__(self, engine: AsyncEngine, size: int, patience: float) -> None:
        """`patience`: seconds that a caller waits at most for one of `size` connections."""
        self.engine = engine
        self._patience = patience
        self._free = asyncio.Semaphore(size)

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[AsyncConnection]:
        """Hold a connection. Raises `OverloadedError` where none came free in time."""
        try:
            async with asyncio.timeout(self._patience if self._free.locked() else None):
                await self._free.acquire()
        except TimeoutError:
            raise OverloadedError(STORE, "busy") from None
        try:
            async with self.engine.connect() as connection:
                yield connection
        finally:
            self._free.release()


class Database:
    """Runs statements. Connects lazily and by itself; a connection that breaks is replaced by the next call.

    Every statement is its own transaction (autocommit, READ COMMITTED), so a call is one round trip. A call runs in a
    task of its own: when its caller is cancelled or its deadline passes, the caller gets an answer and the connection
    is still brought to an end in order.
    """

    def __init__(self, url: str, *, deadline: float = 2.0, pool_size: int = 8, queue_limit: int = 1_000) -> None:
        """`url` is SQLAlchemy's; `deadline` in seconds, shorter than the lease; at most `queue_limit` calls at once.

        Raises `SettingsError` for a URL that names no database we can use; opens nothing.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SettingsError("LEGACY_DATABASE_URL: not a database URL") from error
        self.dialect = dialect_of(parsed)
        self._deadline = deadline
        self._queue_limit = queue_limit
        self._calls: set[asyncio.Task[Any]] = set()
        self._writing: contextlib.AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if self.dialect.one_writer else contextlib.nullcontext()
        )
        arguments = self.dialect.engine_arguments(parsed, _SHARE_OF_STATEMENT * deadline)

        def engine(size: int) -> AsyncEngine:
            return create_async_engine(
                parsed.set(drivername=self.dialect.driver),
                isolation_level="AUTOCOMMIT",
                pool_size=size,
                max_overflow=0,
                pool_timeout=_SHARE_OF_POOL * deadline,
                pool_reset_on_return=None,
                hide_parameters=True,
                **arguments,
            )

        patience = _SHARE_OF_POOL * deadline
        self._lines, self._apart = (_Lines(engine(size), size, patience) for size in (pool_size, 1))
        self.engine = self._lines.engine
        for each in (self._lines, self._apart):
            self._listen(each.engine)

    def _listen(self, engine: AsyncEngine) -> None:
        pool, dialect = engine.sync_engine.pool, self.dialect

        @event.listens_for(pool, "connect")
        def connected(connection: Any, record: Any) -> None:
            record.info.clear()
            dialect.connected(connection)

        @event.listens_for(engine.sync_engine, "handle_error")
        def failed(context: Any) -> None:
            # A line that we have ended ourselves says nothing of the others in the pool
            if context.connection is not None and context.connection.info.get(ABANDONED):
                context.invalidate_pool_on_disconnect = False

        @event.listens_for(pool, "checkout")
        def checked_out(connection: Any, record: Any, proxy: Any) -> None:
            del proxy
            dialect.check_out(connection, record)

    async def read(self, statement: Statement, **parameters: Any) -> Sequence[Row[Any]]:
        """Return the rows of a statement that changes nothing. Raises `StoreUnavailableError`. One round trip."""
        return await self._bounded(lambda call: self._once(call, statement, parameters, False), changing=False)

    async def read_many(self, statement: Statement, **parameters: Any) -> Sequence[Sequence[Any]]:
        """As `read`, for very many rows: as plain tuples, in the order of the statement's columns."""

        async def run(call: _Call) -> Sequence[Sequence[Any]]:
            async with self._lines.one() as connection:
                call.begin(connection)
                return await Transaction(connection, self.dialect).many(statement, **parameters)

        return await self._bounded(run, changing=False)

    async def read_apart(self, statement: Statement, **parameters: Any) -> Sequence[Row[Any]]:
        """As `read`, over a connection that nothing else uses: it never waits for one of the others."""
        return await self._bounded(
            lambda call: self._once(call, statement, parameters, False, self._apart), changing=False
        )

    async def change(self, statement: Statement, **parameters: Any) -> Sequence[Row[Any]]:
        """Return the rows that a changing statement answers, all of them read.

        Raises `StoreUnavailableError` (nothing happened) and `OutcomeUnknownError`. One round trip.
        """
        return await self._bounded(lambda call: self._once(call, statement, parameters, True), changing=True)

    async def change_together(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run `work` in one transaction, for bookkeeping that spans two tables. Raises as `change`."""

        async def run(call: _Call) -> Result:
            async with self._writing, self._lines.one() as connection:
                call.begin(connection)
                try:
                    await connection.exec_driver_sql(self.dialect.begin)
                    result = await work(Transaction(connection, self.dialect))
                    await connection.exec_driver_sql("COMMIT")
                except BaseException:
                    await connection.invalidate()  # which rolls back, whatever state the connection is in
                    raise
                return result

        return await self._bounded(run, changing=True)

    async def create(self, make: Callable[[Any], None]) -> None:
        """Run `make` on SQLAlchemy's synchronous connection, in one transaction and with time enough."""

        async def run(call: _Call) -> None:
            async with self._writing, self._lines.one() as connection:
                call.begin(connection)
                try:
                    await connection.exec_driver_sql(self.dialect.begin)
                    await connection.run_sync(make)
                    await connection.exec_driver_sql("COMMIT")
                except BaseException:
                    await connection.invalidate()
                    raise

        await self._bounded(run, changing=True, deadline=SCHEMA_DEADLINE)

    async def close(self) -> None:
        """Wait for the calls under way, within their deadlines, and close every connection."""
        if self._calls:
            _, left = await asyncio.wait(self._calls, timeout=self._deadline)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        for lines in (self._lines, self._apart):
            await lines.engine.dispose()

    async def _once(
        self, call: _Call, statement: Statement, parameters: Any, changing: bool, lines: _Lines | None = None
    ) -> Sequence[Row[Any]]:
        lines = lines or self._lines
        async with self._writing if changing else contextlib.nullcontext(), lines.one() as connection:
            call.begin(connection)
            try:
                return await Transaction(connection, self.dialect).change(statement, **parameters)
            except SQLAlchemyError as error:
                if classify(error, changing=False, sent=True).reason in DEMOTED:
                    await connection.invalidate()
                raise

    async def _bounded(
        self, run: Callable[[_Call], Awaitable[Result]], *, changing: bool, deadline: float | None = None
    ) -> Result:
        if len(self._calls) >= self._queue_limit:
            raise OverloadedError(STORE, "queue full")
        deadline = deadline or self._deadline
        call = _Call(time.monotonic() + (1 - _SHARE_OF_LAST) * deadline)
        task = asyncio.ensure_future(run(call))
        self._calls.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait((task,), timeout=deadline)
        if not task.done():
            error = classify(TimeoutError(), changing=changing, sent=call.sent)
            if not call.sent:
                call.over = True
                asyncio.get_running_loop().call_later((_CONNECTING - 1) * self._deadline, task.cancel)
            elif call.connection is not None:
                self.dialect.abandon(call.connection)
            raise error
        try:
            return task.result()
        except StoreUnavailableError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise classify(error, changing=changing, sent=call.sent) from error

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have gone; asyncio would complain of an error that nobody has seen


class Transaction:
    """A transaction under way."""

    def __init__(self, connection: AsyncConnection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    async def change(self, statement: Statement, **parameters: Any) -> Sequence[Row[Any]]:
        """Return the rows that a changing statement answers."""
        result = await self._connection.exec_driver_sql(statement.sql, statement.parameters(parameters))
        return result.all() if result.returns_rows else ()

    async def many(self, statement: Statement, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Return the rows that any statement answers, as plain tuples: for half of what very many rows cost else."""
        return await self._dialect.fetch(self._connection, statement.sql, statement.parameters(parameters))
