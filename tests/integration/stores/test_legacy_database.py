"""How the databases are used: indexes, timeouts, durability, and which of them are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from session_ops.errors import SettingsError
from session_ops.stores.legacy_database import Database

if TYPE_CHECKING:
    from tests.contract.legacy_backend import LegacyBackend


async def test_a_hot_statement_uses_its_index(postgresql: LegacyBackend) -> None:
    repository = postgresql.repository()
    hot = repository._statements
    page = hot.page(user=True, agent=False, after=True, newest=True)
    parameters = {
        "id": "x", "user_id": "user1", "created_at": 2**60, "most": 10, "ids": ["x"], "changes": "{}", "remove": [],
        "seen": None, "expected": None, "revision": "x", "data": "{}", "before": 2**62,
    }  # fmt: skip
    wanted = {
        hot.get: "sessions_pkey", hot.get_many: "sessions_pkey", hot.merge: "sessions_pkey", hot.cas: "sessions_pkey",
        hot.touch: "sessions_pkey", hot.end: "sessions_pkey", page: "sessions_user", hot.active: "sessions_expiry",
        hot.take: "sessions_ended", hot.again: "sessions_given", hot.purge: "sessions_told",
    }  # fmt: skip
    async with repository._database.engine.connect() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO sessions (id, user_id, data, created_at, updated_at, revision, expires_at, bucket, told_at)"
            " SELECT md5(n::text), 'user' || mod(n, 50), '{}', n, n, '', 9e15, 1,"
            " CASE mod(n, 50) WHEN 0 THEN -n WHEN 1 THEN n END"
            " FROM generate_series(1, 3000) n"
        )
        await connection.exec_driver_sql("ANALYZE sessions")
        await connection.exec_driver_sql("SET enable_seqscan = off")  # the table is small
        for statement, index in wanted.items():
            plan = await connection.exec_driver_sql("EXPLAIN " + statement.sql, statement.parameters(parameters))
            text = "\n".join(row[0] for row in plan)
            assert index in text, text
            assert "Seq Scan" not in text, text
        await connection.invalidate()


async def test_the_database_itself_ends_what_takes_too_long(postgresql: LegacyBackend) -> None:
    database = Database(postgresql._url, deadline=1.0)
    async with database.engine.connect() as connection:
        settings = [
            (await connection.exec_driver_sql(f"SHOW {name}")).scalar()
            for name in ("statement_timeout", "lock_timeout", "transaction_isolation")
        ]
    await database.close()

    assert settings == ["600ms", "600ms", "read committed"]


async def test_sqlite_keeps_every_commit(sqlite: LegacyBackend) -> None:
    async with sqlite.repository()._database.engine.connect() as connection:
        settings = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]

    assert settings == ["wal", 2, 6000]


@pytest.mark.parametrize(
    "url", ["", "no url", "mysql://x@y/z", "sqlite://", "sqlite:///:memory:", "oracle://x", "redis://y"]
)  # fmt: skip
def test_a_database_that_cannot_keep_sessions_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="LEGACY_DATABASE_URL"):
        Database(url)


def test_a_password_appears_nowhere() -> None:
    database = Database("postgresql://ann:secret@127.0.0.1:1/x")

    assert "secret" not in f"{database.engine!r} {database.engine.url!r} {vars(database)}"
