"""What the legacy store does beside the contract: its table, its statements, its clock, and what each call costs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from sqlalchemy import event

from session_ops.errors import InvalidSessionError
from session_ops.records import NewSession
from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_database import Database
from session_ops.stores.legacy_schema import Columns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.contract.legacy_backend import LegacyBackend

OTHERS = Columns(
    id="sid", version="v", user_id="user", agent_id="for", data="select", created_at="born", updated_at="a b",
    revision="tag", ttl="life", expires_at="expire", deleted="gone", bucket="Bucket", told_at="told", owner="own",
    generation="gen",
)  # fmt: skip


@pytest.fixture(params=["postgresql", "sqlite"])
def backend(request: pytest.FixtureRequest) -> LegacyBackend:
    made: LegacyBackend = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def repository(backend: LegacyBackend) -> LegacySessionRepository:
    return backend.repository()


@pytest_asyncio.fixture
async def database(repository: LegacySessionRepository) -> Database:
    return repository._database


@pytest_asyncio.fixture
async def statements(database: Database) -> AsyncIterator[list[str]]:
    """The statements that have gone to the database."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        sent.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def test_every_operation_is_one_statement(
    repository: LegacySessionRepository, backend: LegacyBackend, statements: list[str]
) -> None:
    made = await repository.create(NewSession(user_id="ann", ttl=60))
    again = await repository.create(NewSession(user_id="ann"))
    await backend.pass_time(made.id, 10)
    calls = (
        repository.create(NewSession(user_id="ann")),
        repository.touch(made.id),
        repository.get(made.id),
        repository.get_many([made.id, again.id, "unknown"]),
        repository.update(made.id, changes={"a": 1}, remove=["b"], expected_revision=made.revision),
        repository.change(made.id, changes={"a": 1}),
        repository.replace(made.id, data={"a": 1}),
        repository.list_sessions(user_id="ann"),
        repository.count_active(),
        repository.statistics(),
        repository.delete(made.id),
        repository.delete_user("ann"),
    )
    for call in calls:
        statements.clear()
        await call
        assert len(statements) == 1, statements


async def test_a_touch_that_moves_nothing_writes_nothing(
    repository: LegacySessionRepository, statements: list[str]
) -> None:
    made = await repository.create(NewSession(user_id="ann"))
    touched = await repository.touch(made.id)  # the first touch goes up to the first step
    statements.clear()

    assert await repository.touch(made.id) == touched
    assert (await repository.touch(made.id)).version == touched.version


async def test_no_change_shortens_a_life(backend: LegacyBackend) -> None:
    made = await backend.repository(ttl=86_400).create(NewSession(user_id="ann"))
    hasty = backend.repository(ttl=60)

    for changed in (
        await hasty.update(made.id, changes={"a": 1}),
        await hasty.change(made.id, changes={"a": 1}),
        await hasty.replace(made.id, data={}),
        await hasty.touch(made.id),
    ):
        assert changed.expires_at == made.expires_at


async def test_a_row_says_who_owns_it(repository: LegacySessionRepository, database: Database) -> None:
    made = await repository.create(NewSession(user_id="ann", id="a-known-id"))

    async with database.engine.connect() as connection:
        row = (await connection.exec_driver_sql("SELECT * FROM sessions")).mappings().one()

    bucket = int.from_bytes(hashlib.sha256(b"a-known-id").digest()[:4]) % 100
    expected = {"version": 1, "owner": "legacy", "generation": 0, "deleted": False, "bucket": bucket, "told_at": None}
    assert {name: row[name] for name in expected} == expected
    assert row["expires_at"] == made.expires_at


async def test_a_tombstone_keeps_owners_and_nothing_else(
    repository: LegacySessionRepository, database: Database
) -> None:
    made = await repository.create(NewSession(user_id="ann", agent_id="helper", data={"secret": "x"}))
    await repository.delete(made.id)

    async with database.engine.connect() as connection:
        row = (await connection.exec_driver_sql("SELECT * FROM sessions")).mappings().one()

    assert (row["user_id"], row["agent_id"], bool(row["deleted"])) == ("ann", "helper", True)
    assert row["data"] in ("{}", b"{}")
    assert row["expires_at"] == made.expires_at
    assert row["version"] == 2


async def test_what_is_told_and_long_over_is_removed_and_stays_counted(
    repository: LegacySessionRepository, backend: LegacyBackend, database: Database
) -> None:
    sessions = [await repository.create(NewSession(user_id="ann", ttl=60)) for _ in range(7)]
    for session in sessions[:2]:
        await repository.delete(session.id)
    for session in sessions[:6]:
        await backend.pass_time(session.id, 61)
    await repository.told(await repository.clean(100))
    before = await repository.statistics()

    await repository.clean(100)
    assert await rows(database) == 7, "kept for the margin, as late copies may be under way"
    for session in sessions[:6]:
        await backend.pass_time(session.id, 7_200)
    await repository.clean(4)
    assert await rows(database) == 3, "as many at once as asked for"
    await repository.clean(4)

    assert await rows(database) == 1
    assert await repository.statistics() == before
    assert (before.created, before.deleted, before.expired, before.active) == (7, 2, 4, 1)


async def test_what_nobody_was_told_of_is_never_removed(
    repository: LegacySessionRepository, backend: LegacyBackend, database: Database
) -> None:
    session = await repository.create(NewSession(user_id="ann", ttl=60))
    await backend.pass_time(session.id, 1_000_000)

    for _ in range(3):
        assert [ended.id for ended in await repository.clean(10)] == [session.id]

    assert await rows(database) == 1


async def test_a_row_that_redis_owns_is_not_ended_by_its_date_here(
    repository: LegacySessionRepository, backend: LegacyBackend, database: Database
) -> None:
    session = await repository.create(NewSession(user_id="ann", ttl=60))
    await backend.pass_time(session.id, 1_000_000)
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("UPDATE sessions SET owner = 'redis', generation = 1")

    assert await repository.clean(10) == []


async def test_an_end_that_was_given_out_is_not_revived_by_a_clock_that_goes_back(
    repository: LegacySessionRepository, backend: LegacyBackend
) -> None:
    session = await repository.create(NewSession(user_id="ann", ttl=60))
    await backend.pass_time(session.id, 61)
    await repository.clean(10)
    await backend.pass_time(session.id, -61)

    assert await repository.get(session.id) is None
    assert await repository.delete(session.id) is False


async def test_the_schema_can_be_made_again_and_by_several_hosts_at_once(backend: LegacyBackend) -> None:
    repositories = [backend.repository() for _ in range(4)]
    made = await repositories[0].create(NewSession(user_id="ann"))

    await asyncio.gather(*[repository.create_schema() for repository in repositories])

    assert await repositories[0].get(made.id) == made


async def test_several_hosts_may_make_a_schema_that_is_not_there(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path}/new.db", deadline=10) for _ in range(3)]
    repositories = [LegacySessionRepository(database) for database in databases]

    await asyncio.gather(*[repository.create_schema() for repository in repositories])

    assert await repositories[0].count_active() == 0
    for database in databases:
        await database.close()


async def test_an_application_may_call_its_columns_as_it_likes(backend: LegacyBackend, database: Database) -> None:
    name = "Web Sessions"
    if database.dialect.name == "postgresql":
        async with database.engine.connect() as connection:
            await connection.exec_driver_sql('CREATE SCHEMA IF NOT EXISTS "the app"')
        name = "the app.Web Sessions"
    repository = backend.repository(table=name, columns=OTHERS)
    await repository.create_schema()

    made = await repository.create(NewSession(user_id="bob", agent_id="helper", data={"a": 1}))
    updated = await repository.update(made.id, changes={"b": 2}, remove=["a"], expected_revision=made.revision)
    listed = await repository.list_sessions(user_id="bob", agent_id="helper")
    touched = await repository.touch(made.id)
    await repository.replace(made.id, data={})
    await repository.delete(made.id)
    ended = await repository.clean(10)
    await repository.told(ended)

    assert (listed.sessions, updated.data, touched.data) == ([updated], {"b": 2}, {"b": 2})
    assert [(end.id, end.user_id) for end in ended] == [(made.id, "bob")]
    assert (await repository.statistics()).deleted == 1
    assert (await repository.describe()).reason is None


async def test_a_cursor_with_an_impossible_position_is_refused(repository: LegacySessionRepository) -> None:
    for position in (b'["x",1,"a"]', b"[1,2,3]", b"{}", b"null", b'["x",-1,"a"]', b'["x",1]'):
        with pytest.raises(InvalidSessionError):
            await repository.list_sessions(cursor=base64.urlsafe_b64encode(position).decode())


async def rows(database: Database) -> int:
    async with database.engine.connect() as connection:
        return int((await connection.exec_driver_sql("SELECT count(*) FROM sessions")).scalar() or 0)
