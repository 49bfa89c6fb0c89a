"""One connection to the legacy database on which its schema is changed without keeping anybody waiting.

A change of a table needs a lock that nobody else may share, if only for a moment. Whoever waits for such a lock makes
all who come later wait behind it, so this connection waits for `LOCK_WAIT` at most, gives up, lets the others through
and tries again: a reader is never held up for longer than that.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from session_ops.errors import HeldError, OutcomeUnknownError, UnfinishedError
from session_ops.stores.legacy_errors import classify
from session_ops.stores.legacy_rows import bucket_of
from session_ops.stores.legacy_schema import SCHEMA_LOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from session_ops.stores.legacy_database import Database

LOCK_WAIT: Final = 0.05
"""Seconds that a change waits for its lock before it lets the others through."""

PATIENCE: Final = 900.0
"""Seconds after which a change that never got its lock is given up; a transaction that stays open must end first."""

# Between two tries of a lock; spread, so that they do not fall in step with a client that comes at intervals.
_PAUSE: Final = (0.05, 1.0)

_LOCKED: Final = ("55P03", "40P01")
_SQLITE_LOCKED: Final = (5, 6)
# Held by the session that prepares; the schema's own lock is taken for moments, by services that start as well.
_PREPARE_LOCK: Final = SCHEMA_LOCK + 1


class Progress(Protocol):
    """Told how far a step has come; called often."""

    def __call__(self, step: str, *, done: int = 0, total: int | None = None, reason: str = "") -> None:
        """`reason` says why it is waiting just now, if it is."""
        ...


def silent(step: str, *, done: int = 0, total: int | None = None, reason: str = "") -> None:
    """A `Progress` that nobody watches."""
    del step, done, total, reason


class Work:
    """Runs statements on one connection; every error of the database comes out as `classify` gives it."""

    def __init__(
        self,
        connection: AsyncConnection,
        database: Database,
        *,
        patience: float,
        progress: Progress,
        before: Callable[[str], Awaitable[None]] | None,
    ) -> None:
        """Made by `at_work`. `before` is awaited before every statement, for tests that interrupt."""
        self.dialect = database.engine.dialect
        self.postgresql = database.dialect.name == "postgresql"
        self.progress = progress
        self._begin = database.dialect.begin
        self._connection = connection
        self._patience = patience
        self._before = before

    async def rows(self, sql: str, **parameters: Any) -> Sequence[Row[Any]]:
        """The rows of one statement, a transaction by itself."""
        return await self._run(sql, parameters)

    async def value(self, sql: str, **parameters: Any) -> Any:
        """The one value of a query; None where there is no row."""
        rows = await self._run(sql, parameters)
        return rows[0][0] if rows else None

    async def together(
        self, step: str, statements: Sequence[str], check: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Run the statements in one transaction that takes its locks at once or tries again.

        `check` runs last in it and may raise: then nothing has happened. Raises `UnfinishedError` when a lock stays
        out of reach.
        """
        pause, began = _PAUSE[0], time.monotonic()
        while True:
            try:
                await self._transaction(statements, check)
            except DBAPIError as error:
                if not _is_locked(error):
                    raise
            else:
                return
            holder = await self._holder()
            if time.monotonic() - began > self._patience:
                raise UnfinishedError(f"{step}: {holder}, keeps the table locked; end it and run the same again")
            self.progress(step, reason=f"waiting for {holder}")
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
            pause = min(_PAUSE[1], pause * 2)

    async def alone(self, statements: Sequence[str]) -> None:
        """Run each statement by itself, however long it waits: for those that keep nobody else waiting."""
        if self.postgresql:
            await self._run("SET lock_timeout = 0", {})
        for statement in statements:
            await self._run(statement, {})
        if self.postgresql:
            await self._run(f"SET lock_timeout = {int(LOCK_WAIT * 1000)}", {})

    async def _transaction(self, statements: Sequence[str], check: Callable[[], Awaitable[None]] | None) -> None:
        await self._run(self._begin, {})
        try:
            if self.postgresql:
                await self._run(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})", {})
            for statement in statements:
                await self._run(statement, {})
            if check is not None:
                await check()
        except Exception:
            with contextlib.suppress(SQLAlchemyError):
                await self._connection.exec_driver_sql("ROLLBACK")
            raise
        await self._run("COMMIT", {})

    async def _run(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        if self._before is not None:
            await self._before(sql)
        if parameters:
            result = await self._connection.execute(text(sql), parameters)
        else:
            result = await self._connection.exec_driver_sql(sql)
        return result.all() if result.returns_rows else ()

    async def _holder(self) -> str:
        """Who has been in a transaction for longest."""
        if not self.postgresql:
            return "another process' transaction"
        rows = await self._run(
            "SELECT pid, application_name, CAST(EXTRACT(EPOCH FROM clock_timestamp() - xact_start) AS INTEGER)"
            " AS seconds FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND xact_start IS NOT NULL AND backend_type = 'client backend' ORDER BY xact_start LIMIT 1",
            {},
        )
        if not rows:
            return "a transaction that has just ended"
        one = rows[0]
        return f"process {one.pid} ({one.application_name or 'unnamed'}), in a transaction for {one.seconds} s"


@contextlib.asynccontextmanager
async def at_work(
    database: Database,
    *,
    patience: float = PATIENCE,
    progress: Progress = silent,
    before: Callable[[str], Awaitable[None]] | None = None,
) -> AsyncIterator[Work]:
    """A connection for work on the schema, closed at the end.

    Raises `HeldError` while another one is at work on the same database, `UnfinishedError` with the database's own
    words where it refuses a statement, and `StoreUnavailableError` where it is out of reach.
    """
    try:
        async with database.engine.connect() as connection:
            try:
                work = Work(connection, database, patience=patience, progress=progress, before=before)
                await _set_up(work, connection)
                yield work
            finally:
                # What was set for this work must not go back to the pool; and what is under way is rolled back
                await connection.invalidate()
    except (SQLAlchemyError, OSError) as error:
        if isinstance(error, DBAPIError) and (said := _refusal(error)):
            raise UnfinishedError(f"the database says: {said}; put that right and run the same again") from error
        raise classify(error, changing=False, sent=True) from error


async def _set_up(work: Work, connection: AsyncConnection) -> None:
    if not work.postgresql:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.create_function("session_bucket", 1, _bucket, deterministic=True)
        return
    if not await work.value(f"SELECT pg_try_advisory_lock({_PREPARE_LOCK})"):
        holder = await work.value(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
            f" AND classid = 0 AND objid = {_PREPARE_LOCK} AND objsubid = 1"
        )
        raise HeldError(f"another `migrate prepare` is at work (PostgreSQL process {holder})")
    for setting in (
        "statement_timeout = 0",
        "idle_in_transaction_session_timeout = '10s'",
        f"lock_timeout = {int(LOCK_WAIT * 1000)}",
    ):
        await work.rows(f"SET {setting}")


def _bucket(session_id: object) -> int:
    return bucket_of(str(session_id))


def _refusal(error: DBAPIError) -> str | None:
    """What the database itself says against a statement; None where it is not there to say anything."""
    if isinstance(classify(error, changing=True, sent=True), OutcomeUnknownError):
        return None
    diagnosis = getattr(error.orig, "diag", None)
    state = getattr(error.orig, "sqlstate", None)
    if diagnosis is not None:
        # Class 28 is a failed login, which is no refusal of a statement
        return str(diagnosis.message_primary) if state and not state.startswith("28") else None
    return str(error.orig) if hasattr(error.orig, "sqlite_errorcode") else None


def _is_locked(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    code = getattr(error.orig, "sqlite_errorcode", None)
    return state in _LOCKED or (isinstance(code, int) and code & 0xFF in _SQLITE_LOCKED)
