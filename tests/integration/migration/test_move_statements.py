"""The movers' statements: an index serves each of them, and each keeps its guards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from session_ops.stores.legacy_moves import LARGEST, Moves
from tests.integration.migration.moving import Migration

if TYPE_CHECKING:
    from session_ops.stores.legacy_database import Transaction
    from tests.integration.migration.application import Application
    from tests.servers import RedisServer


def statements(migration: Migration) -> Moves:
    store = migration.store
    return Moves(store.database, store.schema, store.control_schema)


async def claim(migration: Migration, g: int, *, percent: int = 100, most: int = 100, upto: str = "z") -> list[Any]:
    moves = statements(migration)

    async def work(transaction: Transaction) -> Any:
        return (await moves.claim(transaction, g, ("", upto), (percent, []), most))[0]

    return list(await migration.store.database.change_together(work))


async def test_an_index_serves_each_statement(on_postgresql: Application, redis_server: RedisServer) -> None:
    migration = await Migration(on_postgresql, redis_server).open(rows=6_000)
    await migration.sql(
        "UPDATE visits SET owner = 'redis', generation = 1, version = version + 1 WHERE mod(bucket, 2) = 0"
    )
    moves = statements(migration)
    name = on_postgresql.table.rpartition(".")[2]
    key = f"{name}_pkey"
    parameters = {"g": 1, "after": "s2", "upto": "s3", "percent": 50, "canaries": ["s1", "s2"], "most": 500,
                  "largest": LARGEST, "ids": ["s1", "s2"]}  # fmt: skip
    statements_ = (moves.slice_, moves.claim_, moves.back_, moves.claimed_, moves.odd_)
    async with migration.store.database.engine.connect() as connection:
        await connection.exec_driver_sql(f"ANALYZE {on_postgresql.table}")
        for statement in statements_:
            plan = await connection.exec_driver_sql("EXPLAIN " + statement.sql, statement.parameters(parameters))
            text = "\n".join(row[0] for row in plan)
            assert f"using {key}" in text or f"on {key}" in text, text
            assert f"Seq Scan on {name}" not in text, text
    await migration.close()


async def test_a_claim_takes_what_the_legacy_store_owns_and_nothing_else(migration: Migration) -> None:
    await migration.open(rows=6)
    await migration.sql(
        "UPDATE visits SET owner = 'redis', generation = 1, version = version + 1 WHERE sid = 's1'",
        "UPDATE visits SET owner = 'redis', generation = 0, version = version + 1 WHERE sid = 's2'",
        "UPDATE visits SET generation = 2, version = version + 1 WHERE sid = 's3'",
        "UPDATE visits SET deleted = TRUE, version = version + 1 WHERE sid = 's4'",
        "UPDATE visits SET expires = 1, version = version + 1 WHERE sid = 's5'",
    )
    before = {row[0]: row[1:] for row in await migration.sql("SELECT sid, owner, generation, version FROM visits")}

    claimed = {row[0] for row in await claim(migration, 1)}
    again = await claim(migration, 1)

    after = {row[0]: row[1:] for row in await migration.sql("SELECT sid, owner, generation, version FROM visits")}
    assert claimed == {"s2", "s6"}  # of an older generation, and the legacy store's own
    assert again == []
    assert {sid for sid in after if after[sid] != before[sid]} == claimed
    assert all(after[sid] == ("redis", 1, before[sid][2] + 1) for sid in claimed)


async def test_a_claim_looks_at_so_many_rows_and_says_where_the_next_one_goes_on(
    on_postgresql: Application, redis_server: RedisServer
) -> None:
    migration = await Migration(on_postgresql, redis_server).open(rows=300)
    moves, ids = statements(migration), [row[0] for row in await migration.sql("SELECT sid FROM visits ORDER BY sid")]

    async def step(after: str, most: int) -> tuple[list[str], str | None]:
        async def work(transaction: Transaction) -> Any:
            return await moves.claim(transaction, 1, (after, ids[249]), (0, [ids[7], ids[150]]), most)

        rows, last = await migration.store.database.change_together(work)
        return [row[0] for row in rows], last

    assert await step("", 100) == ([ids[7]], ids[99])
    assert await step(ids[99], 100) == ([ids[150]], ids[199])
    assert await step(ids[199], 100) == ([], None)
    assert await step(ids[249], 100) == ([], None)
    await migration.close()


async def test_a_batch_ends_at_its_size_its_slice_and_the_percentage(migration: Migration) -> None:
    await migration.open(rows=300)

    assert len(await claim(migration, 1, most=7)) == 7
    assert {row[0] for row in await claim(migration, 1, upto="s1")} <= {"s1"}
    small = await claim(migration, 1, percent=5)

    buckets = {row[0]: row[1] for row in await migration.sql("SELECT sid, bucket FROM visits")}
    assert small
    assert all(buckets[row[0]] < 5 for row in small)
    assert await claim(migration, 1, percent=0) == []


async def test_a_row_that_somebody_has_locked_is_left_for_later(
    on_postgresql: Application, redis_server: RedisServer
) -> None:
    migration = await Migration(on_postgresql, redis_server).open(rows=4)
    async with migration.application.database.engine.connect() as connection:
        await connection.exec_driver_sql("BEGIN")
        await connection.exec_driver_sql(f"SELECT 1 FROM {on_postgresql.table} WHERE sid = 's2' FOR UPDATE")

        claimed = {row[0] for row in await claim(migration, 1)}

        await connection.exec_driver_sql("ROLLBACK")
    assert claimed == {"s1", "s3", "s4"}
    assert {row[0] for row in await claim(migration, 1)} == {"s2"}
    await migration.close()


async def test_a_database_that_was_prepared_earlier_gets_the_new_tables(migration: Migration) -> None:
    await migration.open(rows=2)
    await migration.sql("DROP TABLE session_runs", "DROP TABLE session_slices", "DROP TABLE session_quarantine")
    await migration.want(100)
    with pytest.raises(Exception, match="migrate prepare"):
        await migration.move()

    done = await migration.application.prepare()

    assert [step.name for step in done.steps] == ["beside"]
    assert (await migration.move()).moved_in == 2
    await migration.sql("UPDATE session_control SET redis = 'off'", "UPDATE session_stage SET use_redis = FALSE")
    await migration.move()
    await migration.application.undo()
    left = "\n".join(await migration.application.shape())
    assert not any(name in left for name in ("session_runs", "session_slices", "session_quarantine"))
