"""Prepare and undo, interrupted at every step and killed: run again they come to the same end."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from session_ops.errors import HeldError, UnfinishedError
from session_ops.migration.work import at_work
from tests.integration.migration.application import COLUMNS
from tests.owned import load_functions
from tests.servers import SERVICE_PASSWORD, SERVICE_USER, RedisServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.migration.application import Application


_INDEX = re.compile(r"visits_\w+|\d{13}")


class GoneError(Exception):
    """The process is gone."""


class Interruption:
    """Notes the statements that change something, and ends the run before the one with a given number."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at
        self.changes: list[str] = []

    async def __call__(self, sql: str) -> None:
        if sql.split(maxsplit=1)[0] in ("SELECT", "PRAGMA", "SET", "SHOW"):
            return
        if len(self.changes) == self._at:
            raise GoneError
        self.changes.append(sql)

    def places(self) -> list[int]:
        """Where an interruption differs from all others: before what commits by itself, and before each COMMIT.

        Of the statements that differ in an index's name alone the first and the last.
        """
        kinds: dict[str, list[int]] = {}
        inside = False
        for number, sql in enumerate(self.changes):
            if sql == "COMMIT":  # all of it done, none of it committed
                kinds[f"COMMIT after {_INDEX.sub('', self.changes[number - 1])} {inside}"] = [number]
            elif not inside and not sql.startswith("BEGIN"):
                kinds.setdefault(_INDEX.sub("", sql).split(" ON ")[0], []).append(number)
            inside = sql.startswith("BEGIN") or (inside and sql != "COMMIT")
        return sorted({place for places in kinds.values() for place in (places[0], places[-1])})


async def interrupted(application: Application, run: Callable[..., Awaitable[object]], at: int) -> None:
    """Interrupt a run; PostgreSQL lets go of its lock a moment after the connection."""
    with pytest.raises(GoneError):
        await run(before=Interruption(at))
    async with asyncio.timeout(20):
        while application.postgresql and await application.sql(  # noqa: ASYNC110 - PostgreSQL tells nobody
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
        ):
            await asyncio.sleep(0.01)


async def test_after_an_interruption_at_any_step_the_next_run_comes_to_the_same_end(application: Application) -> None:
    await application.make(rows=3)
    bare, there, back = await application.shape(), Interruption(), Interruption()
    await application.prepare(before=there)
    prepared = await application.shape()
    await application.undo(before=back)
    assert await application.shape() == bare

    assert min(len(there.places()), len(back.places())) > 4
    pairs = itertools.zip_longest(there.places(), back.places(), fillvalue=0)
    for place, place_back in pairs:
        await interrupted(application, application.prepare, place)
        await application.prepare()
        assert await application.shape() == prepared, there.changes[place]
        await interrupted(application, application.undo, place_back)
        await application.undo()
        assert await application.shape() == bare, back.changes[place_back]


async def test_an_interrupted_prepare_is_undone_and_an_interrupted_undo_prepared(application: Application) -> None:
    await application.make(rows=3)
    bare, there, back = await application.shape(), Interruption(), Interruption()
    await application.prepare(before=there)
    prepared = await application.shape()
    await application.undo(before=back)

    for place in there.places()[::2]:
        await interrupted(application, application.prepare, place)
        await application.undo()
        assert await application.shape() == bare, there.changes[place]
    for place in back.places()[::2]:
        await application.prepare()
        await interrupted(application, application.undo, place)
        await application.prepare()
        assert await application.shape() == prepared, back.changes[place]
        await application.undo()


async def test_killed_in_the_middle_the_next_run_goes_on(application: Application, redis_server: RedisServer) -> None:
    await application.make(rows=20_000)
    await load_functions(redis_server)
    environment = {
        "PATH": os.environ["PATH"],
        "LEGACY_DATABASE_URL": application.url,
        "LEGACY_TABLE": application.table,
        "LEGACY_COLUMNS": COLUMNS,
        "REDIS_PORT": str(redis_server.port),
        "REDIS_USERNAME": SERVICE_USER,
        "REDIS_PASSWORD": SERVICE_PASSWORD,
        "SESSION_LEASE": "1",
    }
    command = [sys.executable, "-m", "session_ops.cli", "migrate", "prepare", "--execute"]

    unfinished = []
    for seconds in (0.0, 0.2, 0.6):
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ended = asyncio.ensure_future(process.wait())
        while not ended.done() and not await _has_begun(application):
            await asyncio.wait((ended,), timeout=0.02)
        await asyncio.wait((ended,), timeout=seconds)
        if not ended.done():
            process.kill()
        await ended
        unfinished.append(await _unfinished(application))
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
    _, said = await process.communicate()

    assert any(unfinished)
    assert process.returncode == 0, said
    assert not (await application.prepare()).changed
    assert await application.repository().get("s77")
    assert not await application.sql("SELECT 1 FROM visits WHERE bucket IS NULL")


async def _unfinished(application: Application) -> bool:
    """Whether something is left to do; PostgreSQL lets go of a killed client's lock when its statement has ended."""
    async with asyncio.timeout(20):
        while True:
            try:
                return (await application.preparation().run(execute=False)).changed
            except HeldError:
                await asyncio.sleep(0.05)


async def _has_begun(application: Application) -> bool:
    if application.postgresql:
        return bool(
            await application.sql(
                f"SELECT 1 FROM pg_attribute WHERE attrelid = '{application.table}'::regclass AND attname = 'bucket'"
            )
        )
    return any(row.name == "bucket" for row in await application.sql("PRAGMA table_info(visits)"))


async def test_two_at_once_is_one_too_many(on_postgresql: Application) -> None:
    await on_postgresql.make(rows=1)
    async with at_work(on_postgresql.database):
        with pytest.raises(HeldError, match=r"another `migrate prepare` is at work \(PostgreSQL process \d+\)"):
            await on_postgresql.prepare()

    assert (await on_postgresql.prepare()).changed


async def test_what_the_database_refuses_is_said_in_its_own_words(application: Application) -> None:
    await application.make(rows=1)
    other = f"{application.table}_user"  # an index is to be called so
    await application.sql(f"CREATE TABLE {other} (a INTEGER)")

    with pytest.raises(UnfinishedError, match=r"the database says: .*visits_user.*; put that right and run the same"):
        await application.prepare()

    await application.sql(f"DROP TABLE {other}")
    assert (await application.prepare()).changed
    assert not (await application.prepare()).changed
