"""The control tables, on both databases."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from sqlalchemy import Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from session_ops.stores.control_schema import FIRST_HASH, ControlSchema, audit_hash
from session_ops.stores.legacy_database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.postgresql import PostgreSQLServer

_numbers = itertools.count(1)


class Control:
    """Empty control tables and a database to reach them by."""

    def __init__(self, database: Database, namespace: str | None) -> None:
        self.database = database
        self.schema = ControlSchema(namespace)

    async def make(self) -> None:
        await self.database.create(self.schema.create)

    async def rows(self, table: Table) -> list[dict[str, Any]]:
        async with self.database.engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(select(table))).mappings()]

    async def run(self, statement: Any) -> None:
        async with self.database.engine.connect() as connection:
            await connection.execute(statement)


@pytest_asyncio.fixture(params=["postgresql", "sqlite"])
async def control(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql_server: PostgreSQLServer
) -> AsyncIterator[Control]:
    """Control tables in a namespace of their own."""
    namespace = None
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/control.db", deadline=10)
    else:
        database, namespace = Database(postgresql_server.url, deadline=10), f"control{next(_numbers)}"
        async with database.engine.connect() as connection:
            await connection.exec_driver_sql(f"CREATE SCHEMA {namespace}")
    made = Control(database, namespace)
    await made.make()
    yield made
    if namespace:
        async with database.engine.connect() as connection:
            await connection.exec_driver_sql(f"DROP SCHEMA {namespace} CASCADE")
    await database.close()


async def test_a_new_fleet_mirrors_without_redis_and_is_not_prepared(control: Control) -> None:
    schema = control.schema

    assert await control.rows(schema.control) == [
        {
            "id": 1, "generation": 0, "prefix": None, "pin": None, "mode": "mirror", "closing": None,
            "closing_at": None, "redis": "off", "addresses": "", "identity": None, "old_prefixes": "[]",
            "bumped_at": "[]",
        }
    ]  # fmt: skip
    assert await control.rows(schema.stage) == [
        {
            "id": 1, "stage": None, "percent": 0, "use_redis": False, "canary_ids": "[]", "run_id": None,
            "changed_at": None, "changed_by": None,
        }
    ]  # fmt: skip
    assert await control.rows(schema.lock) == [{"id": 1, "token": 0, "holder": None, "purpose": None, "until": None}]
    assert await control.rows(schema.hosts) == await control.rows(schema.audit) == []


async def test_making_them_again_changes_nothing_also_from_several_hosts_at_once(control: Control) -> None:
    await control.run(update(control.schema.control).values(generation=3, pin="abc", mode="final"))

    await asyncio.gather(*(control.make() for _ in range(4)))

    [row] = await control.rows(control.schema.control)
    assert (row["generation"], row["pin"], row["mode"]) == (3, "abc", "final")


async def test_a_row_that_was_lost_is_made_again(control: Control) -> None:
    for table in control.schema.single:
        await control.run(table.delete())

    await control.make()

    assert [len(await control.rows(table)) for table in control.schema.single] == [1, 1, 1, 1]


async def test_there_is_no_second_row(control: Control) -> None:
    for table in control.schema.single:
        with pytest.raises(IntegrityError):
            await control.run(insert(table).values(id=2))
        with pytest.raises(IntegrityError):
            await control.run(insert(table).values(id=1))


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("control", {"mode": "mirrored"}),
        ("control", {"mode": None}),
        ("control", {"redis": "lost"}),
        ("stage", {"stage": "canaries"}),
        ("stage", {"percent": 101}),
    ],
)
async def test_a_word_that_no_host_knows_is_refused(control: Control, table: str, values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        await control.run(update(getattr(control.schema, table)).values(values))


async def test_a_process_has_one_row(control: Control) -> None:
    row = {"host": "app1", "pid": 7, "started_at": 1, "seen_at": 1}
    await control.run(insert(control.schema.hosts).values(row))
    await control.run(insert(control.schema.hosts).values({**row, "pid": 8}))

    with pytest.raises(IntegrityError):
        await control.run(insert(control.schema.hosts).values(row))


async def test_the_audit_does_not_fork(control: Control) -> None:
    audit = control.schema.audit
    entry = {"at": 1, "who": "ann", "what": "prepare", "detail": "{}"}
    first = audit_hash(FIRST_HASH, seq=1, **entry)  # type: ignore[arg-type]
    await control.run(insert(audit).values(seq=1, previous_hash=FIRST_HASH, hash=first, **entry))

    with pytest.raises(IntegrityError):
        await control.run(insert(audit).values(seq=2, previous_hash=FIRST_HASH, hash="x", **entry))
    await control.run(insert(audit).values(seq=2, previous_hash=first, hash="x", **entry))


def test_the_hash_of_an_entry_covers_all_of_it() -> None:
    entry: dict[str, Any] = {"seq": 1, "at": 2, "who": "ann", "what": "prepare", "detail": "{}"}
    others = [{**entry, name: value} for name, value in
              (("seq", 2), ("at", 3), ("who", "bob"), ("what", "bump"), ("detail", "[]"))]  # fmt: skip

    hashes = {audit_hash(FIRST_HASH, **each) for each in (entry, *others)}

    assert len(hashes | {audit_hash("1" * 64, **entry)}) == len(others) + 2
