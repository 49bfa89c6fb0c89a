"""Prepare and undo on a table at rest: what is there afterwards, what is kept, and what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import PreconditionError
from session_ops.records import NewSession
from session_ops.settings import Flag
from session_ops.stores.legacy_rows import bucket_of
from session_ops.stores.legacy_schema import Schema
from tests.integration.migration.application import COLUMNS, FAR

if TYPE_CHECKING:
    from tests.integration.migration.application import Application

ROWS = 700
"""More than one page."""


async def test_without_execute_nothing_changes_and_the_sql_is_what_then_runs(application: Application) -> None:
    await application.make(rows=3)
    before = await application.shape()
    ran: list[str] = []

    async def note(sql: str) -> None:
        ran.append(sql)

    planned = await application.preparation().run(execute=False)
    assert await application.shape() == before
    assert (planned.changed, planned.executed) == (True, False)
    await application.prepare(before=note)

    # Constants of the moment aside, and the pages' sizes
    said = [
        sql for step in planned.steps if step.how not in ("fill", "finish") for sql in step.sql if "DEFAULT" not in sql
    ]
    said = [sql for sql in said if "session_prepared (kind" not in sql]
    assert [sql for sql in said if sql not in ran] == []
    names = [step.name for step in planned.steps]
    assert names.index("columns") < names.index("fill") < names.index("beside") < names.index("guard")
    assert max(names.index(name) for name in names if name.startswith("index")) < names.index("guard")


async def test_every_row_has_its_bucket_a_revision_and_the_times_of_now(application: Application) -> None:
    await application.make(rows=ROWS)

    done = await application.prepare()

    rows = await application.sql("SELECT sid, bucket, revision, created_at, updated_at, owner, generation FROM visits")
    assert len(rows) == ROWS
    assert all(row.bucket == bucket_of(row.sid) for row in rows)
    assert len({row.revision for row in rows}) == ROWS
    assert all(len(row.revision) == 16 for row in rows)
    [(now,)] = await application.sql("SELECT max(changed_at) FROM " + beside(application, "session_stage"))
    assert all(now - 60_000 < row.created_at == row.updated_at <= now for row in rows)
    assert {(row.owner, row.generation) for row in rows} == {("legacy", 0)}
    assert done.survey is not None
    assert done.survey.rows == ROWS


async def test_what_the_application_had_is_served_as_sessions(application: Application) -> None:
    await application.make(rows=3)
    await application.prepare()
    repository = application.repository()

    session = await repository.get("s2")
    assert session is not None
    assert (session.user_id, session.agent_id, session.data, session.expires_at) == ("user2", None, {"step": 1}, FAR)
    updated = await repository.update("s2", changes={"step": 2})
    assert updated.data == {"step": 2}
    assert (await repository.create(NewSession(user_id="ann"))).revision
    assert await repository.count_active() == 4
    assert {one.id for one in (await repository.list_sessions(user_id="user2")).sessions} == {"s2"}


async def test_the_stage_is_prepared_and_no_generation_is_open(application: Application) -> None:
    await application.make(rows=1)

    done = await application.prepare()

    [stage] = await application.sql("SELECT * FROM " + beside(application, "session_stage"))
    assert (stage.stage, stage.percent, bool(stage.use_redis), stage.changed_by) == ("prepared", 0, False, "ann")
    assert done.bump


@pytest.mark.parametrize(("rows", "use_redis", "percent"), [(0, True, 30), (1, False, 0)])
async def test_only_a_table_without_rows_takes_the_flag_it_is_given(
    application: Application, rows: int, use_redis: bool, percent: int
) -> None:
    await application.make(rows=rows)

    done = await application.prepare(flag=Flag(use_redis_sessions=True, session_redis_percent=30))
    again = await application.preparation(flag=Flag(use_redis_sessions=False, session_redis_percent=1)).run(
        execute=True
    )

    assert (done.empty, done.stage) == (rows == 0, None)
    assert (again.stage, again.use_redis, again.percent, again.changed) == ("prepared", use_redis, percent, False)


async def test_a_second_run_finds_nothing_to_do(application: Application) -> None:
    await application.make(rows=3)
    await application.prepare()
    before = await application.shape()

    again = await application.prepare()

    assert (again.changed, again.steps) == (False, [])
    assert await application.shape() == before


async def test_the_first_generation_is_opened_last_and_once(application: Application) -> None:
    await application.make(rows=1)
    opened: list[int] = []

    async def bump() -> None:
        [(stage,)] = await application.sql("SELECT stage FROM " + beside(application, "session_stage"))
        assert stage == "prepared"
        opened.append(1)
        await application.sql(f"UPDATE {beside(application, 'session_control')} SET generation = 1, redis = 'on'")

    planned = await application.preparation(bump=bump).run(execute=False)
    assert (planned.bump, opened) == (True, [])
    assert not (await application.prepare(bump=bump)).bump
    await application.prepare(bump=bump)
    assert opened == [1]


async def test_a_bump_that_fails_is_made_up_for_by_the_next_run(application: Application) -> None:
    await application.make(rows=1)
    opened: list[int] = []

    async def bump() -> None:
        opened.append(1)
        if len(opened) == 1:
            raise RuntimeError("no Redis")

    with pytest.raises(RuntimeError, match="no Redis"):
        await application.prepare(bump=bump)
    done = await application.prepare(bump=bump)

    assert (len(opened), done.changed, done.steps) == (2, True, [])


async def test_undo_leaves_what_was_there_before(application: Application) -> None:
    await application.make(rows=ROWS)
    before = await application.shape(), await application.sql("SELECT * FROM visits ORDER BY sid")
    await application.prepare()

    planned = await application.preparation().undo(execute=False, with_audit=True)
    undone = await application.undo()

    assert planned.steps == undone.steps
    assert (await application.shape(), await application.sql("SELECT * FROM visits ORDER BY sid")) == before
    assert not (await application.undo()).changed
    assert (await application.prepare()).changed, "and back again"
    await application.undo()
    assert await application.shape() == before[0]


async def test_undo_does_not_bring_an_ended_session_back(application: Application) -> None:
    await application.make(rows=3)
    await application.prepare()
    repository = application.repository()
    await repository.update("s1", changes={"step": 2})
    await repository.delete("s2")

    await application.undo()

    rows = await application.sql("SELECT sid FROM visits ORDER BY sid")
    assert [row.sid for row in rows] == ["s1", "s3"]
    [(changed,)] = await application.sql("SELECT count(*) FROM visits WHERE CAST(attributes AS TEXT) LIKE '%%2%%'")
    assert changed == 1


@pytest.mark.parametrize(
    ("control", "owner", "reason"),
    [
        ("generation = 1, redis = 'on'", None, "Redis is on: `session-ops generation bump --no-redis`"),
        ("generation = 1, redis = 'away'", None, "Redis is away: `session-ops generation bump --no-redis`"),
        ("mode = 'hold'", None, "the mode is hold"),
        ("generation = 1", "owner = 'redis', generation = 1", "Redis owns a session of this generation"),
    ],
)
async def test_undo_is_refused_while_redis_has_a_part_in_it(
    application: Application, control: str, owner: str | None, reason: str
) -> None:
    await application.make(rows=3)
    await application.prepare()
    await application.sql(f"UPDATE {beside(application, 'session_control')} SET {control}")
    if owner:
        await application.sql(f"UPDATE visits SET {owner}, version = version + 1 WHERE sid = 's2'")
    before = await application.shape()

    with pytest.raises(PreconditionError, match=reason):
        await application.undo()

    assert await application.shape() == before


async def test_rows_of_an_older_generation_are_no_obstacle_to_undo(application: Application) -> None:
    await application.make(rows=1)
    await application.prepare()
    await application.sql(f"UPDATE {beside(application, 'session_control')} SET generation = 2")
    await application.sql("UPDATE visits SET owner = 'redis', generation = 1, version = version + 1")

    assert (await application.undo()).changed


async def test_a_table_that_is_not_there_is_made_and_goes_with_undo(application: Application) -> None:
    empty = await application.shape()

    done = await application.prepare()
    assert [step.name for step in done.steps] == ["record", "table", "beside", "guard"]
    assert not (await application.prepare()).changed
    await application.undo()

    assert await application.shape() == empty


async def test_a_table_that_was_made_stays_while_it_has_a_row(application: Application) -> None:
    await application.prepare()
    session = await application.repository().create(NewSession(user_id="ann"))

    await application.undo()

    assert [row.sid for row in await application.sql("SELECT sid FROM visits")] == [session.id]
    assert not (await application.undo()).changed
    await application.prepare()
    assert await application.repository().get(session.id) == session


async def test_the_repositorys_own_table_lacks_only_the_guard(application: Application) -> None:
    schema = Schema(application.table)
    await application.database.create(schema.create)
    before = await application.shape()

    done = await application.preparation("").run(execute=True)

    assert [step.name for step in done.steps] == ["record", "beside", "guard"]
    assert not (await application.preparation("").run(execute=True)).changed
    await application.preparation("").undo(execute=True, with_audit=True)
    assert await application.shape() == before


async def test_an_empty_table_is_adjusted_like_any_other(application: Application) -> None:
    await application.make()

    await application.prepare()

    assert await application.repository().create(NewSession(user_id="ann"))


async def test_what_no_session_is_like_is_counted(application: Application) -> None:
    await application.make(rows=5, data="TEXT", table=_LOOSE)
    await application.sql(
        "UPDATE visits SET expires = 1000000000001 WHERE sid = 's1'",
        "UPDATE visits SET expires = NULL WHERE sid = 's2'",
        "UPDATE visits SET uid = NULL WHERE sid = 's3'",
        "UPDATE visits SET attributes = '\x80\x04]' WHERE sid = 's4'",
        "UPDATE visits SET attributes = '[1]' WHERE sid = 's5'",
        f"INSERT INTO visits (sid, uid, attributes, expires) VALUES ('a b', 'x', NULL, {FAR}), ('.x', 'x', '{{}}', 2)",
    )

    counted = (await application.preparation().run(execute=False)).survey

    assert counted is not None
    found = (counted.rows, counted.expired, counted.without_expiry, counted.without_user, counted.bad_data)
    assert (*found, counted.odd_ids) == (7, 2, 1, 1, 3, 2)
    await application.prepare()
    assert len(await application.sql("SELECT 1 FROM visits WHERE bucket IS NOT NULL")) == 7


@pytest.mark.parametrize("data", ["JSON", "TEXT"])
async def test_attributes_need_not_be_jsonb(on_postgresql: Application, data: str) -> None:
    await on_postgresql.make(rows=1, data=data)
    await on_postgresql.prepare()
    repository = on_postgresql.repository()

    session = await repository.update("s1", changes={"more": [1.5, None, "ü"]}, remove=["step"])
    assert session.data == {"more": [1.5, None, "ü"]}
    assert await repository.get("s1") == session
    assert (await repository.replace("s1", data={"x": 1})).data == {"x": 1}
    assert (await repository.create(NewSession(user_id="ann", data={"a": "b"}))).data == {"a": "b"}
    assert await repository.delete("s1")


_LOOSE = "CREATE TABLE {table} (sid VARCHAR(64) PRIMARY KEY, uid TEXT, attributes {data}, expires BIGINT)"


def beside(application: Application, name: str) -> str:
    return f"{application.namespace}.{name}" if application.namespace else name


def test_the_columns_of_these_tests_differ_from_ours() -> None:
    parts: dict[str, Any] = dict(pair.split("=") for pair in COLUMNS.split(","))
    assert all(part != name for part, name in parts.items())
