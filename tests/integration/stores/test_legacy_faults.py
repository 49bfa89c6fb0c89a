"""A legacy store that is slow, locked, gone or cut off in the middle: bounded answers, the truth, and recovery."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import make_url

from session_ops.errors import OutcomeUnknownError, OverloadedError, StoreUnavailableError
from session_ops.records import NewSession
from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_database import Database, Transaction
from tests.postgresql import PostgreSQLServer
from tests.protocol.slow_link import slow_link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.alone
DEADLINE = 1.5


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL that may be stopped."""
    server = PostgreSQLServer().start()
    yield server
    server.remove()


@pytest_asyncio.fixture
async def database(server: PostgreSQLServer) -> AsyncIterator[Database]:
    database = Database(server.url, deadline=DEADLINE, pool_size=3)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def repository(database: Database) -> LegacySessionRepository:
    repository = LegacySessionRepository(database)
    await repository.create_schema()
    return repository


async def unavailable(call: Any) -> tuple[StoreUnavailableError, float]:
    """The error of a call that must fail, and how long it took."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError) as error:
        await call
    return error.value, time.monotonic() - started


@contextlib.asynccontextmanager
async def row_locked(server: PostgreSQLServer, session_id: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Another client holds the session's row."""
    connection = await psycopg.AsyncConnection.connect(server.url)
    async with connection:
        await connection.execute("SELECT 1 FROM sessions WHERE id = %s FOR UPDATE", (session_id,))
        yield connection
        await connection.rollback()


async def test_a_write_to_a_file_that_outlives_its_deadline_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, new = f"sqlite:///{tmp_path}/sessions.db", NewSession(user_id="ann")
    other = Database(url, deadline=DEADLINE)
    # As on a machine too busy to end it in time: it may wait for the lock for longer than its caller waits for it
    monkeypatch.setattr("session_ops.stores.legacy_database._SHARE_OF_STATEMENT", 10)
    late = Database(url, deadline=0.2)
    await LegacySessionRepository(other).create_schema()
    await LegacySessionRepository(late).get("nobody")

    with contextlib.closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        error, _ = await unavailable(LegacySessionRepository(late).create(new))
        holder.execute("COMMIT")

    assert isinstance(error, OutcomeUnknownError)
    await LegacySessionRepository(other).create(new)
    await late.close()
    assert await LegacySessionRepository(other).count_active() == 2
    await other.close()


async def test_a_statement_that_waits_too_long_ends_and_has_changed_nothing(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))

    async with row_locked(server, session.id):
        error, seconds = await unavailable(repository.update(session.id, changes={"a": 1}))

    assert not isinstance(error, OutcomeUnknownError)
    assert (error.store, error.reason) in {("legacy", "statement timeout"), ("legacy", "locked")}
    assert seconds < DEADLINE
    assert await repository.get(session.id) == session


async def test_readers_do_not_wait_for_a_locked_row(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))

    async with row_locked(server, session.id):
        assert await repository.get(session.id) == session


async def test_a_connection_that_breaks_during_a_change_leaves_the_outcome_unknown(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))

    async with row_locked(server, session.id) as other:
        attempt = asyncio.ensure_future(repository.update(session.id, changes={"a": 1}))
        waiting = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ended = 0
        while not ended:
            [(ended,)] = await (await other.execute(waiting)).fetchall()
        error, _ = await unavailable(attempt)

    assert isinstance(error, OutcomeUnknownError)
    assert await repository.get(session.id) == session


async def test_a_server_that_is_stopped_and_started_is_used_again(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))
    await asyncio.gather(*[repository.get(session.id) for _ in range(10)])

    server.stop()
    for call in (repository.get(session.id), repository.update(session.id, changes={"a": 1}), repository.clean(10)):
        error, seconds = await unavailable(call)
        assert not isinstance(error, OutcomeUnknownError), "nothing was sent"
        assert error.reason == "unreachable"
        assert seconds < DEADLINE
    assert (await repository.describe()).state == "down"

    server.start()
    assert await repository.get(session.id) == session
    assert (await repository.update(session.id, changes={"a": 1})).data == {"a": 1}
    assert (await repository.describe()).state == "up"


async def test_idle_connections_to_a_server_that_restarted_cost_no_error(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))
    await asyncio.gather(*[repository.get(session.id) for _ in range(3)])

    server.kill()
    server.start()

    changed = await asyncio.gather(*[repository.change(session.id, changes={f"a{n}": n}) for n in range(3)])
    assert len({change.version for change in changed}) == 3


async def test_a_server_that_stands_still_is_given_up_in_time_and_used_again(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))
    await repository.get(session.id)

    server.freeze()
    try:
        error, seconds = await unavailable(repository.update(session.id, changes={"a": 1}))
        read_error, read_seconds = await unavailable(repository.get(session.id))
    finally:
        server.thaw()

    assert (type(error), type(read_error)) == (OutcomeUnknownError, StoreUnavailableError)
    assert max(seconds, read_seconds) < DEADLINE + 0.3
    limit = time.monotonic() + 5
    while (await repository.describe()).state == "down":
        assert time.monotonic() < limit
    read = await repository.get(session.id)
    assert read is not None
    assert read.data in ({}, {"a": 1})


async def test_a_statement_that_is_given_up_gives_its_connection_free(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))
    alone = LegacySessionRepository(database := Database(server.url, deadline=DEADLINE, pool_size=1))
    await alone.get(session.id)
    server.freeze()
    try:
        await unavailable(alone.get(session.id))
        error, _ = await unavailable(alone.get(session.id))
    finally:
        server.thaw()
    assert not isinstance(error, OverloadedError), "the pool's only place was free to connect again"
    await database.close()


async def test_a_primary_that_becomes_read_only_is_left(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))

    async def make_read_only(value: str) -> None:
        async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as other:
            await other.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            await other.execute("SELECT pg_reload_conf()")
            state: Any = None
            while state != (value,):
                state = await (await other.execute("SHOW default_transaction_read_only")).fetchone()

    await make_read_only("on")
    try:
        for call in (repository.update(session.id, changes={"a": 1}), repository.get(session.id)):
            error, _ = await unavailable(call)
            assert (error.reason, isinstance(error, OutcomeUnknownError)) == ("read-only", False)
    finally:
        await make_read_only("off")

    assert await repository.get(session.id) == session


async def test_a_server_that_takes_longer_to_connect_to_than_a_call_may_is_used_all_the_same(
    server: PostgreSQLServer, repository: LegacySessionRepository
) -> None:
    session = await repository.create(NewSession(user_id="ann"))
    port = make_url(server.url).port
    assert port is not None
    async with slow_link(port, 0.2) as slow:
        # What SQLAlchemy asks of its first connection, connecting, and the statement: seven round trips, 1.4 s
        far = LegacySessionRepository(database := Database(server.url.replace(str(port), str(slow)), deadline=0.9))
        error, took = await unavailable(far.update(session.id, changes={"k": 1}))
        assert not isinstance(error, OutcomeUnknownError), "the change has not left"
        assert took < 1.2
        await asyncio.sleep(0.8)
        found = await far.get(session.id)
        assert found is not None
        assert found.data == {}, "nothing happens any more where nothing has happened"
        await database.close()


async def test_what_is_still_connecting_is_given_up_in_the_end() -> None:
    async with await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0) as mute:
        port = mute.sockets[0].getsockname()[1]
        database = Database(f"postgresql+psycopg://nobody@127.0.0.1:{port}/none", deadline=0.3, pool_size=1)
        repository = LegacySessionRepository(database)
        await unavailable(repository.get("a"))
        await asyncio.sleep(0.4)
        error, _ = await unavailable(repository.get("a"))
        assert error.reason == "timeout", "the only connection of the pool is free again, to be tried once more"
        await database.close()


async def test_more_calls_than_connections_wait_and_too_many_are_refused(server: PostgreSQLServer) -> None:
    database = Database(server.url, deadline=DEADLINE, pool_size=2, queue_limit=20)
    repository = LegacySessionRepository(database)
    await repository.create_schema()
    session = await repository.create(NewSession(user_id="ann"))

    async with row_locked(server, session.id):
        calls = [repository.update(session.id, changes={"a": n}) for n in range(30)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
    assert sorted({outcome.reason for outcome in refused}) == ["busy", "queue full"]
    assert len([outcome for outcome in refused if outcome.reason == "queue full"]) == 10
    assert not any(isinstance(outcome, OutcomeUnknownError) for outcome in outcomes)
    assert await repository.get(session.id) == session
    await database.close()


async def test_connections_are_given_to_callers_in_turn(server: PostgreSQLServer) -> None:
    database = Database(server.url, deadline=DEADLINE, pool_size=4)
    repository = LegacySessionRepository(database)
    await repository.create_schema()
    callers = 20
    served = [0] * callers
    overtaken = []

    async def caller(number: int) -> None:
        for _ in range(50):
            before = list(served)
            await repository.get("none")
            served[number] += 1
            others = [now - then for now, then in zip(served, before, strict=True)]
            overtaken.append(max(others[:number] + others[number + 1 :]))

    await asyncio.gather(*map(caller, range(callers)))
    # Who had asked before is served before, and one that was served just then may be told a moment later
    assert max(overtaken) <= 2, "somebody was served again and again while another one waited"
    await database.close()


async def test_a_caller_that_gives_up_leaves_the_connections_in_order(
    server: PostgreSQLServer, repository: LegacySessionRepository, database: Database
) -> None:
    session = await repository.create(NewSession(user_id="ann"))

    async with row_locked(server, session.id):
        tasks = [asyncio.ensure_future(repository.update(session.id, changes={"a": n})) for n in range(3)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        assert [type(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 3

    assert await repository.get(session.id) is not None
    assert await asyncio.gather(*[repository.count_active() for _ in range(6)])


async def test_a_crash_in_the_middle_of_cleanup_loses_no_count(
    repository: LegacySessionRepository, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await repository.statistics()
    session = await repository.create(NewSession(user_id="ann"))
    await repository.delete(session.id)
    while ended := await repository.clean(100):
        await repository.told(ended)
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("UPDATE sessions SET expires_at = 1 WHERE deleted")
    change, steps = Transaction.change, 0

    async def crashing(self: Transaction, *arguments: Any, **parameters: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise OSError("the host dies here")
        return await change(self, *arguments, **parameters)

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "change", crashing)
        with pytest.raises(StoreUnavailableError):
            await repository.clean(100)

    counted = await repository.statistics()
    await repository.clean(100)
    after = await repository.statistics()
    assert counted == after
    assert (after.created, after.deleted) == (before.created + 1, before.deleted + 1)
    async with database.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM sessions WHERE expires_at = 1")).scalar() == 0


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        (("/postgres", "/absent"), "database missing"),
        (("session_ops@", "nobody@"), "authentication failed"),
        (("127.0.0.1", "127.0.0.2"), "unreachable"),
    ],
)
async def test_what_is_wrong_with_the_connection_is_said(
    server: PostgreSQLServer, replaced: tuple[str, str], reason: str
) -> None:
    database = Database(server.url.replace(*replaced), deadline=DEADLINE)

    error, seconds = await unavailable(LegacySessionRepository(database).get("x"))

    assert error.reason == reason
    assert seconds < DEADLINE
    await database.close()


async def test_a_database_without_the_tables_says_so(database: Database) -> None:
    state = await LegacySessionRepository(database, table="pg_catalog.absent").describe()

    assert (state.state, state.reason) == ("down", "schema missing")


async def test_a_write_that_another_process_blocks_in_sqlite_ends_in_time(tmp_path: Path) -> None:
    path = tmp_path / "legacy.db"
    database = Database(f"sqlite:///{path}", deadline=DEADLINE)
    repository = LegacySessionRepository(database)
    await repository.create_schema()
    session = await repository.create(NewSession(user_id="ann"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        error, seconds = await unavailable(repository.update(session.id, changes={"a": 1}))
        assert await repository.get(session.id) == session, "readers do not wait"
        other.execute("ROLLBACK")

    assert (error.reason, isinstance(error, OutcomeUnknownError)) == ("locked", False)
    assert seconds < DEADLINE
    assert (await repository.update(session.id, changes={"a": 1})).data == {"a": 1}
    await database.close()
