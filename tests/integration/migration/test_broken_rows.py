"""Rows that cannot move: each class is put aside with its reason, the others move, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.migration.outlook import Outlook
from session_ops.migration.run_records import Target
from session_ops.settings import read_settings
from tests.integration.migration.application import COLUMNS, FAR
from tests.integration.migration.moving import Migration
from tests.owned import as_administrator, load_functions
from tests.servers import SERVICE_PASSWORD, SERVICE_USER

if TYPE_CHECKING:
    from tests.integration.migration.application import Application
    from tests.servers import RedisServer

_TABLE = "CREATE TABLE {table} (sid VARCHAR(5000) PRIMARY KEY, uid TEXT, attributes {data}, expires BIGINT, ip TEXT)"


class Bomb:
    """What must never be unpickled."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


PICKLE = pickle.dumps(Bomb(), protocol=0).decode()
GOOD = '{"step":1}'
LARGE = '{"a":"' + "x" * 10_000_000 + '"}'
WIDE = "{" + ",".join(f'"{number}":1' for number in range(70_000)) + "}"
DEEP = '{"a":' + "[" * 1_001 + "]" * 1_001 + "}"

Row = tuple[str, str | None, str | bytes | None, int | None]
ROWS: dict[str, tuple[Row, str]] = {
    "truncated": (("b-truncated", "ann", '{"step":', FAR), "data: truncated JSON"),
    "no JSON": (("b-json", "ann", "step=1", FAR), "data: not JSON"),
    "a list": (("b-list", "ann", "[1]", FAR), "data: not a JSON object"),
    "empty": (("b-empty", "ann", "", FAR), "data: truncated JSON"),
    "missing": (("b-null", "ann", None, FAR), "data: missing"),
    "deep": (("b-deep", "ann", DEEP, FAR), "deep"),
    "pickle": (("b-pickle", "ann", PICKLE, FAR), "data: pickled"),
    "70,000 attributes": (("b-wide", "ann", WIDE, FAR), "data: too many attributes"),
    "10 MB": (("b-large", "ann", LARGE, FAR), "too large"),
    "no expiry": (("b-forever", "ann", GOOD, None), "no expiry"),
    "seconds of a far year": (("b-year", "ann", GOOD, 2**60), "expiry out of range"),
    "no user": (("b-nobody", None, GOOD, FAR), "no user"),
    "long user": (("b-user", "u" * 300, GOOD, FAR), "user"),
    "control character in a user": (("b-control", "a\nb", GOOD, FAR), "user: 1 to 256 printable characters"),
    "a name with a quote": (("b-name", "ann", '{"a\\"b":1}', FAR), "data: an attribute's name"),
    "an id with a space": (("not an id", "ann", GOOD, FAR), "id"),
    "an id with braces": (("{0}:*?[", "ann", GOOD, FAR), "id"),
    "a dot in front": (("..", "ann", GOOD, FAR), "id"),
    "a newline": (("a\nb", "ann", GOOD, FAR), "id"),
    "4 KB of id": (("i" * 4_096, "ann", GOOD, FAR), "id"),
}
BYTES: dict[str, tuple[Row, str]] = {
    "bad UTF-8": (("b-utf8", "ann", b'{"a":"\xff"}', FAR), "data: not UTF-8"),
    "pickled bytes": (("b-bytes", "ann", pickle.dumps(Bomb()), FAR), "data: pickled"),
}
"""What only SQLite lets in."""


async def fill(migration: Migration, rows: list[Row]) -> None:
    """The application's table with these rows, in a text column, prepared."""
    application = migration.application
    await as_administrator(migration.server, "FLUSHALL")
    await load_functions(migration.server)
    await application.make(0, data="TEXT", table=_TABLE)
    async with application.database.engine.connect() as connection:
        mark = "%s" if application.postgresql else "?"
        for row in rows:
            await connection.exec_driver_sql(
                f"INSERT INTO {application.table} (sid, uid, attributes, expires) VALUES ({', '.join([mark] * 4)})", row
            )
    await application.prepare()
    await migration.bump()


async def test_every_class_of_broken_rows_is_put_aside_and_the_others_move(migration: Migration) -> None:
    expected = ROWS if migration.application.postgresql else {**ROWS, **BYTES}
    good: list[Row] = [(f"g{number}", "ann", GOOD, FAR) for number in range(300)]
    await fill(migration, [*(row for row, _ in expected.values()), *good, ("g-over", "ann", GOOD, 1)])
    await migration.want(100)

    done = await migration.mover().run(batch=25)

    kept = {one.id: one for one in await migration.quarantine.list(1_000)}
    for row, reason in expected.values():
        assert kept[row[0]].reason.startswith(reason) or reason in kept[row[0]].reason, (row[0], kept[row[0]])
        content = row[2].encode() if isinstance(row[2], str) else row[2] or b""
        assert kept[row[0]].sha256 == hashlib.sha256(content).hexdigest(), row[0]
        assert kept[row[0]].size == len(content)
    assert len(kept) == len(expected) == done.quarantined
    assert (done.state, done.moved_in) == ("done", 300)
    owners = dict(await migration.sql("SELECT sid, owner FROM visits"))
    assert {sid for sid, owner in owners.items() if owner == "redis"} == {row[0] for row in good}
    assert not (await migration.move()).changed


async def test_a_row_that_was_put_right_moves_once_it_is_tried_again(migration: Migration) -> None:
    await fill(migration, [("b1", "ann", "nonsense", FAR), ("b2", "ann", "nonsense", FAR)])
    await migration.want(100)
    assert (await migration.move()).quarantined == 2
    await migration.sql(f"UPDATE visits SET attributes = '{GOOD}', version = version + 1 WHERE sid = 'b1'")
    assert not (await migration.move()).changed

    assert await migration.quarantine.retry("b1", migration.audit) == 1
    first = await migration.move()
    assert await migration.quarantine.retry(None, migration.audit) == 1
    second = await migration.move()

    assert (first.moved_in, first.quarantined) == (1, 0)
    assert (second.moved_in, second.quarantined) == (0, 1)
    assert await migration.quarantine.counts() == {"data: not JSON": 1}


async def test_more_broken_rows_than_the_limit_stop_the_run_and_leave_no_claim(migration: Migration) -> None:
    rows: list[Row] = [(f"b{number}", "ann", "nonsense", FAR) for number in range(40)]
    await fill(migration, [*rows, *((f"g{number}", "ann", GOOD, FAR) for number in range(200))])
    await migration.want(100)

    stopped = await migration.mover(most_broken=5).run(batch=20)

    assert (stopped.state, stopped.resumable) == ("stopped", False)
    assert "--most-broken" in str(stopped.reason)
    assert 5 < stopped.quarantined <= 25  # it ends behind a batch
    owners = dict(await migration.sql("SELECT sid, owner FROM visits"))
    assert not any(owners[f"b{number}"] == "redis" for number in range(40))
    done = await migration.mover(most_broken=100).run()
    assert (done.state, done.quarantined) == ("done", 40 - stopped.quarantined)


async def test_the_plan_finds_the_same_rows_and_changes_nothing(
    on_sqlite: Application, redis_server: RedisServer
) -> None:
    migration = Migration(on_sqlite, redis_server)
    expected = {**ROWS, **BYTES}
    good: list[Row] = [(f"g{number}", "ann", GOOD, FAR) for number in range(300)]
    await fill(migration, [*(row for row, _ in expected.values()), *good, ("g-over", "ann", GOOD, 1)])
    await migration.want(100)
    before = await migration.sql("SELECT * FROM visits ORDER BY sid")
    settings = read_settings(
        {"LEGACY_DATABASE_URL": on_sqlite.url, "LEGACY_TABLE": "visits", "LEGACY_COLUMNS": COLUMNS,
         "REDIS_PORT": str(redis_server.port), "REDIS_USERNAME": SERVICE_USER, "REDIS_PASSWORD": SERVICE_PASSWORD}
    )  # fmt: skip
    outlook = Outlook(settings, migration.store)

    plan = await outlook.plan(Target(use_redis=True, percent=100))
    moving = await outlook.moves(Target(use_redis=True, percent=100))

    assert await migration.sql("SELECT * FROM visits ORDER BY sid") == before
    assert (plan.rows, plan.expired, plan.to_redis) == (len(expected) + 301, 1, 300)
    assert (plan.bytes, plan.expiry["later"]) == (300 * len(GOOD), 300)
    assert moving.to_redis >= 300  # without a look at the data
    assert plan.fits
    done = await migration.move()
    kept = await migration.quarantine.counts()
    assert plan.broken == kept
    assert sum(kept.values()) == done.quarantined
    await migration.close()
