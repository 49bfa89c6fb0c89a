"""The guard: plain SQL of a release that does not know session ownership is refused, the protocol's own passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from sqlalchemy.exc import IntegrityError

from session_ops.records import NewSession
from tests.integration.migration.application import FAR

if TYPE_CHECKING:
    from tests.integration.migration.application import Application

HINT = "the release that sent this does not know session ownership"


@pytest_asyncio.fixture
async def prepared(application: Application) -> Application:
    """A prepared table with the sessions s1 to s3, of which s2 has expired."""
    await application.make(rows=3)
    await application.sql("UPDATE visits SET expires = 1 WHERE sid = 's2'")
    await application.prepare()
    return application


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE visits SET attributes = '{}' WHERE sid = 's1'", "an UPDATE must raise version"),
        (f"UPDATE visits SET expires = {FAR} + 1 WHERE sid = 's1'", "an UPDATE must raise version"),
        ("UPDATE visits SET version = version - 1 WHERE sid = 's1'", "an UPDATE must raise version"),
        ("UPDATE visits SET version = 1, bucket = 7, ip = 'x' WHERE sid = 's1'", "an UPDATE must raise version"),
        ("UPDATE visits SET told_at = 1, ip = 'x' WHERE sid = 's1'", "an UPDATE must raise version"),
        ("UPDATE visits SET sid = 's9' WHERE sid = 's1'", "an UPDATE must raise version"),
        ("DELETE FROM visits WHERE sid = 's1'", "a DELETE must leave rows that have not expired"),
        ("DELETE FROM visits", "a DELETE must leave rows that have not expired"),
        (
            f"INSERT INTO visits (sid, uid, attributes, expires) VALUES ('new', 'ann', '{{}}', {FAR})",
            "an INSERT must set bucket",
        ),
    ],
)
async def test_what_old_code_does_is_refused_and_says_why(prepared: Application, statement: str, reason: str) -> None:
    before = await prepared.sql("SELECT * FROM visits ORDER BY sid")

    with pytest.raises(IntegrityError, match=reason) as refused:
        await prepared.sql(statement)

    assert HINT in str(refused.value)
    assert await prepared.sql("SELECT * FROM visits ORDER BY sid") == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE visits SET attributes = '{}', version = version + 1 WHERE sid = 's1'",
        "UPDATE visits SET told_at = 7 WHERE sid = 's1'",
        "UPDATE visits SET bucket = 7 WHERE sid = 's1'",
        "UPDATE visits SET told_at = -7, bucket = 7 WHERE sid = 's1'",
        "DELETE FROM visits WHERE sid = 's2'",
        f"INSERT INTO visits (sid, uid, attributes, expires, bucket) VALUES ('new', 'ann', '{{}}', {FAR}, 7)",
    ],
)
async def test_what_the_protocol_does_passes(prepared: Application, statement: str) -> None:
    before = await prepared.sql("SELECT * FROM visits ORDER BY sid")

    await prepared.sql(statement)

    assert await prepared.sql("SELECT * FROM visits ORDER BY sid") != before


async def test_an_update_that_changes_nothing_is_none(prepared: Application) -> None:
    await prepared.sql("UPDATE visits SET uid = uid")


async def test_no_row_loses_its_bucket(prepared: Application) -> None:
    with pytest.raises(IntegrityError):
        await prepared.sql("UPDATE visits SET bucket = NULL WHERE sid = 's1'")
    with pytest.raises(IntegrityError):
        await prepared.sql("UPDATE visits SET bucket = NULL, version = version + 1 WHERE sid = 's1'")


async def test_a_table_is_not_truncated(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=1)
    await on_postgresql.prepare()

    with pytest.raises(IntegrityError, match="rows that have not expired are not removed"):
        await on_postgresql.sql("TRUNCATE visits")


async def test_an_ended_session_stays_until_it_would_have_expired_and_is_then_purged(prepared: Application) -> None:
    repository = prepared.repository(cleanup_interval=1)
    session = await repository.create(NewSession(user_id="ann"))
    await repository.delete(session.id)
    [ended] = [end for end in await repository.clean(10) if end.id == session.id]
    await repository.told([ended])

    with pytest.raises(IntegrityError, match="a DELETE must leave"):
        await prepared.sql(f"DELETE FROM visits WHERE sid = '{session.id}'")

    async with prepared.unguarded() as connection:  # its day comes
        await connection.exec_driver_sql(f"UPDATE {prepared.table} SET expires = 1 WHERE sid = '{session.id}'")
    await repository.clean(10)
    assert not await prepared.sql(f"SELECT 1 FROM visits WHERE sid = '{session.id}'")


async def test_an_application_that_stamps_its_rows_by_a_trigger_is_not_in_the_way(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=1)
    await on_postgresql.sql(
        "ALTER TABLE visits ADD COLUMN seen timestamptz",
        "ALTER TABLE visits ADD COLUMN who text GENERATED ALWAYS AS (upper(uid)) STORED",
        f"CREATE FUNCTION {on_postgresql.namespace}.stamp() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.seen := clock_timestamp(); RETURN NEW; END'",
        f"CREATE TRIGGER stamp BEFORE UPDATE ON visits FOR EACH ROW EXECUTE FUNCTION {on_postgresql.namespace}.stamp()",
    )
    await on_postgresql.prepare()

    await on_postgresql.sql("UPDATE visits SET told_at = 7 WHERE sid = 's1'")

    with pytest.raises(IntegrityError):
        await on_postgresql.sql("UPDATE visits SET ip = 'x' WHERE sid = 's1'")


async def test_a_column_that_the_application_adds_later_is_guarded_after_the_next_run(prepared: Application) -> None:
    await prepared.sql("ALTER TABLE visits ADD COLUMN theme TEXT")

    await prepared.prepare()

    with pytest.raises(IntegrityError, match="an UPDATE must raise version"):
        await prepared.sql("UPDATE visits SET theme = 'dark' WHERE sid = 's1'")
    assert not (await prepared.prepare()).changed


async def test_a_guard_that_was_switched_off_is_put_back(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=1)
    await on_postgresql.prepare()
    await on_postgresql.sql("ALTER TABLE visits DISABLE TRIGGER _session_ops_delete")

    await on_postgresql.prepare()

    with pytest.raises(IntegrityError, match="a DELETE must leave"):
        await on_postgresql.sql("DELETE FROM visits")
