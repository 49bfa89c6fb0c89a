"""Prepare while the application is at work: whom it waits for, whom it never keeps waiting, and what it finds left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from session_ops.errors import UnfinishedError
from session_ops.stores.legacy_rows import bucket_of
from tests.integration.migration.application import FAR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.migration.application import Application


@contextlib.asynccontextmanager
async def transaction(application: Application, *statements: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Another client's transaction that stays open."""
    async with await psycopg.AsyncConnection.connect(application.url, application_name="report") as connection:
        for statement in statements:
            await connection.execute(statement.replace("visits", application.table).encode())
        yield connection
        await connection.rollback()


class Progress:
    """Keeps the reasons that were given for waiting."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.waiting = asyncio.Event()

    def __call__(self, step: str, *, done: int = 0, total: int | None = None, reason: str = "") -> None:
        del done, total
        self.reasons.append(f"{step}: {reason}")
        if "somebody has locked" in reason:
            self.waiting.set()


@pytest.mark.alone
async def test_a_lock_that_somebody_holds_is_waited_for_without_making_readers_wait(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=3)
    progress = Progress()
    async with transaction(on_postgresql, "SELECT * FROM visits"):
        preparing = asyncio.ensure_future(on_postgresql.prepare(progress=progress))
        longest = 0.0
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            began = time.monotonic()
            await on_postgresql.sql("SELECT * FROM visits WHERE sid = 's1'")
            longest = max(longest, time.monotonic() - began)
        assert not preparing.done()
    await preparing

    assert longest < 0.5, "a reader waited for the lock that prepare waits for"
    assert any("columns: waiting for process" in reason and "(report)" in reason for reason in progress.reasons)


async def test_a_lock_that_never_comes_ends_the_run_and_says_whose_it_is(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=3)
    async with transaction(on_postgresql, "SELECT * FROM visits"):
        with pytest.raises(
            UnfinishedError, match=r"columns: process \d+ \(report\), in a transaction for \d+ s, keeps"
        ):
            await on_postgresql.prepare(patience=0.3)

    assert (await on_postgresql.prepare()).changed


async def test_a_row_that_is_locked_is_filled_later(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=3)
    progress, filling, locked = Progress(), asyncio.Event(), asyncio.Event()

    async def before(sql: str) -> None:
        if sql.startswith("SELECT sid"):
            filling.set()
            await locked.wait()

    preparing = asyncio.ensure_future(on_postgresql.prepare(progress=progress, before=before))
    await filling.wait()
    async with transaction(on_postgresql, "SELECT 1 FROM visits WHERE sid = 's2' FOR UPDATE"):
        locked.set()
        await asyncio.wait_for(progress.waiting.wait(), 20)
        rows = await on_postgresql.sql("SELECT sid FROM visits WHERE bucket IS NULL")
        assert [row.sid for row in rows] == ["s2"], "the others did not wait"
    await preparing

    [row] = await on_postgresql.sql("SELECT bucket FROM visits WHERE sid = 's2'")
    assert row.bucket == bucket_of("s2")


async def test_an_index_that_an_interrupted_build_has_left_is_built_again(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=3)
    builds = []

    async def interrupt(sql: str) -> None:
        if "CONCURRENTLY visits_user" in sql and not builds:
            builds.append(sql)
            # A build waits for every older transaction, and is cancelled while it does
            engine, older = on_postgresql.database.engine, transaction(on_postgresql, "UPDATE visits SET ip = 'x'")
            async with older, engine.connect() as connection:
                await connection.exec_driver_sql("SET statement_timeout = 300")
                with pytest.raises(OperationalError):
                    await connection.exec_driver_sql(sql)
                await connection.invalidate()
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        await on_postgresql.prepare(before=interrupt)
    invalid = (
        "SELECT indexrelid::regclass::text AS name FROM pg_index"
        f" WHERE NOT indisvalid AND indrelid = '{on_postgresql.table}'::regclass"
    )
    [left] = await on_postgresql.sql(invalid)
    assert left.name.endswith("visits_user")

    done = await on_postgresql.prepare()

    [step] = [step for step in done.steps if step.name == "index visits_user"]
    assert step.why == "the interrupted build has left an invalid one"
    assert not await on_postgresql.sql(invalid)


async def test_old_code_goes_on_until_the_guard_and_what_it_does_is_kept(application: Application) -> None:
    await application.make(rows=3)
    inserted: list[str] = []
    inside = False

    async def old_code(sql: str) -> None:
        # Between any two transactions the application inserts, changes and deletes as it always did
        nonlocal inside
        if not inside and not sql.startswith("SET") and not await _is_guarded(application):
            await _old_code(application, len(inserted))
            inserted.append(f"new{len(inserted)}")
        inside = sql.startswith("BEGIN") or (inside and sql != "COMMIT")

    await application.prepare(before=old_code)

    assert len(inserted) > 20
    rows = {row.sid: row for row in await application.sql("SELECT * FROM visits")}
    assert set(rows) == {"s1", "s2", "s3", *inserted}
    assert all(row.bucket == bucket_of(row.sid) for row in rows.values())
    assert rows["s1"].ip == f"10.0.0.{len(inserted) - 1}"
    assert all(len(row.revision) == 16 and row.created_at > 1_700_000_000_000 for row in rows.values())
    assert not (await application.prepare()).changed
    with pytest.raises(IntegrityError):
        await _old_code(application, 999)


async def _old_code(application: Application, number: int) -> None:
    await application.sql(
        f"INSERT INTO visits (sid, uid, attributes, expires) VALUES ('new{number}', 'ann', '{{}}', {FAR})",
        f"UPDATE visits SET ip = '10.0.0.{number}' WHERE sid = 's1'",
        f"INSERT INTO visits (sid, uid, attributes, expires) VALUES ('gone{number}', 'ann', '{{}}', {FAR})",
        f"DELETE FROM visits WHERE sid = 'gone{number}'",
    )


async def _is_guarded(application: Application) -> bool:
    catalogue = "pg_trigger WHERE tgrelid = '{}'::regclass AND tgname LIKE '%%session_ops%%'"
    if not application.postgresql:
        catalogue = "sqlite_master WHERE type = 'trigger'"
    return bool(await application.sql(f"SELECT 1 FROM {catalogue.format(application.table)}"))
