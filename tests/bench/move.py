"""Measures how fast sessions move: `python -m tests.bench.move`.

An application's table in a real PostgreSQL that syncs its commits, a real Redis with AOF everysec; they and this
process, the mover, share two cores, as redis-cli and Redis do. In each round the same sessions are moved by a mover,
claims and guards included; loaded by `redis-cli --pipe` from a file of what the move has made; claimed alone and put
alone; moved back; validated; and copied one by one, as one would without us. Ratios are of one round; their median
counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psycopg
import redis as redis_py
import uvloop

from session_ops.migration.quarantine import Broken, judge
from session_ops.stores.found import Put
from session_ops.stores.replies import pack
from session_ops.stores.ticks import TOGETHER
from tests.bench.report import Figure, publish
from tests.bench.store import DATA, LOGIN
from tests.integration.migration.application import FAR, Application
from tests.integration.migration.moving import Migration
from tests.owned import as_administrator, load_functions
from tests.postgresql import PostgreSQLServer
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, RedisServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.migration.mover import Outcome

NAMESPACE = "bench"
BATCH = 1_000
"""Sessions of a claim: what the mover's own batches grow to."""
LOOP = 2_000
"""Sessions that are copied one by one: enough to see the rate."""


class Bench:
    """One table, one Redis."""

    def __init__(self, migration: Migration, rows: int, directory: Path) -> None:
        self.migration = migration
        self.rows = rows
        self._port = migration.server.port
        self._file = directory / "sessions.resp"
        self._redis = redis_py.Redis(port=self._port, **LOGIN)  # type: ignore[arg-type]
        self.rates: dict[str, list[float]] = defaultdict(list)

    async def fill(self) -> None:
        """The application's rows: ten sessions to a user, 600 bytes each."""
        data = msgspec.json.encode(DATA).decode()
        await self.migration.application.make()
        await self.migration.application.sql(
            "INSERT INTO visits (sid, uid, attributes, expires) SELECT md5(n::text), 'user' || n / 10, "
            f"'{data}', {FAR} - n FROM generate_series(1, {self.rows}) n"
        )

    async def round(self) -> None:
        """Everything once. Begins and ends with all sessions in the legacy store."""
        await self._settle()
        moved = await self._run("move in", 100)
        assert moved.moved_in == self.rows, moved
        await self._timed_validation()
        self._write_file()
        await self._empty_redis()
        self._pipe()
        returned = await self._run("move back", 0)
        assert returned.moved_back == self.rows, returned
        await self._settle()
        await self._parts()
        await self._run("move back again", 0)
        await self._empty_redis()
        self._loop()

    async def _settle(self) -> None:
        """Give the database what its own cleaning would do at some time."""
        await self.migration.application.sql("VACUUM ANALYZE visits", "CHECKPOINT")

    async def _run(self, name: str, percent: int) -> Outcome:
        await self.migration.want(percent, on=percent > 0)
        began = time.perf_counter()
        outcome = await self.migration.move()
        self.rates[name].append(self.rows / (time.perf_counter() - began))
        assert outcome.state == "done", outcome
        return outcome

    async def _timed_validation(self) -> None:
        began = time.perf_counter()
        found = await self.migration.validator().run("full")
        self.rates["validate in full"].append(self.rows / (time.perf_counter() - began))
        assert (found.in_redis, found.mismatches) == (self.rows, []), found

    async def _empty_redis(self) -> None:
        """Empty, as the generation in force would be: its keys alone are left."""
        control = await self.migration.store.control_store.read()
        key = f"generation:{control.prefix}:{{0}}"
        kept = self._redis.dump(key)
        await as_administrator(self.migration.server, "FLUSHALL")
        self._redis.restore(key, 0, kept)

    def _write_file(self) -> None:
        """The commands that make what Redis has now: the records and all their indexes."""
        with self._file.open("wb") as file:
            for key in self._redis.scan_iter(count=1_000):
                kind = self._redis.type(key)
                if kind == b"hash":
                    fields = [part for pair in self._redis.hgetall(key).items() for part in pair]
                    file.write(pack((b"HSET", key, *fields)))
                elif kind == b"zset":
                    for member, score in self._redis.zrange(key, 0, -1, withscores=True):
                        file.write(pack((b"ZADD", key, repr(score), member)))
                elif kind == b"string":
                    file.write(pack((b"SET", key, self._redis.get(key))))
                else:
                    raise AssertionError(f"{key!r} is a {kind!r}: say how it is loaded")
                at = self._redis.pexpiretime(key)
                if at > 0:
                    file.write(pack((b"PEXPIREAT", key, at)))

    def _pipe(self) -> None:
        command = ["redis-cli", "-p", str(self._port), "--user", ADMINISTRATOR, "--no-auth-warning", "--pipe"]
        with self._file.open("rb") as file:
            began = time.perf_counter()
            subprocess.run(
                command, stdin=file, check=True, capture_output=True,
                env={**os.environ, "REDISCLI_AUTH": ADMINISTRATOR_PASSWORD},
            )  # fmt: skip
            self.rates["redis-cli --pipe"].append(self.rows / (time.perf_counter() - began))

    async def _parts(self) -> None:
        """The claims alone, then the puts of what was claimed alone."""
        await self.migration.want(100)
        mover = self.migration.mover()
        moves, store = mover._moves, self.migration.store
        control = await store.steps.control()
        claimed: list[Sequence[object]] = []
        after = ""
        began = time.perf_counter()
        while True:
            rows, last = await store.database.change_together(
                lambda transaction, after=after: moves.claim(  # type: ignore[misc]
                    transaction, control.generation, (after, "~"), (100, ()), BATCH
                )
            )
            claimed += rows
            if last is None:
                break
            after = last
        self.rates["claims alone"].append(self.rows / (time.perf_counter() - began))
        assert len(claimed) == self.rows
        redis = store.generations.current
        assert redis is not None
        began = time.perf_counter()
        calls: list[asyncio.Future[list[Put | None]]] = []
        for start in range(0, self.rows, TOGETHER):
            judged = [judge(row) for row in claimed[start : start + TOGETHER]]
            fit = [each for each in judged if not isinstance(each, Broken)]
            calls.append(asyncio.ensure_future(redis.put_together(fit)))
            await asyncio.sleep(0)
            if len(calls) == 10:
                assert set(await calls.pop(0)) == {Put.WRITTEN}
        for call in calls:
            assert set(await call) == {Put.WRITTEN}
        self.rates["puts alone"].append(self.rows / (time.perf_counter() - began))

    def _loop(self) -> None:
        """Select, JSON, HSET, EXPIRE, ZADD, one session after the other."""
        with psycopg.connect(self.migration.application.url) as database:
            ids = database.execute(f"SELECT sid FROM {NAMESPACE}.visits LIMIT {LOOP}").fetchall()
            began = time.perf_counter()
            for (session_id,) in ids:
                row = database.execute(
                    f"SELECT uid, attributes, expires FROM {NAMESPACE}.visits WHERE sid = %s", (session_id,)
                ).fetchone()
                assert row is not None
                self._redis.hset(f"loop:{session_id}", mapping={"user": row[0], "data": msgspec.json.encode(row[1])})
                self._redis.expire(f"loop:{session_id}", 86_400)
                self._redis.zadd(f"loop:user:{row[0]}", {session_id: row[2]})
            self.rates["one by one"].append(len(ids) / (time.perf_counter() - began))
        keys = list(self._redis.scan_iter("loop:*", count=1_000))
        self._redis.delete(*keys)

    def figures(self) -> list[Figure]:
        """Ratios round by round, and the rates behind them."""
        rates = self.rates

        def ratio(name: str, other: str) -> list[float]:
            return [one / two for one, two in zip(rates[name], rates[other], strict=True)]

        return [
            Figure(name="move in / redis-cli --pipe of the same", unit="ratio",
                   runs=ratio("move in", "redis-cli --pipe"), goal=">= 0.7"),
            Figure(name="move in / one by one", unit="ratio", runs=ratio("move in", "one by one"), goal=">= 20"),
            Figure(name="move back / move in", unit="ratio", runs=ratio("move back", "move in"), goal=">= 0.7"),
            Figure(name="time of a full validation / of the move in", unit="ratio",
                   runs=ratio("move in", "validate in full"), goal="<= 0.5"),
            *[Figure(name=name, unit="/s", runs=runs) for name, runs in rates.items() if name != "move back again"],
        ]  # fmt: skip


async def run(options: argparse.Namespace) -> list[Figure]:
    """Measure everything on servers of its own."""
    # Two cores for all of it, whichever way the sessions go; what is started inherits them
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory() as directory:
        redis = RedisServer(Path(directory) / "redis").start()
        database = PostgreSQLServer(fsync="on", full_page_writes="on", max_wal_size="4GB").start()
        try:
            with psycopg.connect(database.url, autocommit=True) as connection:
                connection.execute(f"CREATE SCHEMA {NAMESPACE}")
            migration = Migration(Application(database.url, NAMESPACE), redis)
            bench = Bench(migration, options.rows, Path(directory))
            await load_functions(redis)
            await bench.fill()
            await migration.application.prepare()
            await migration.bump()
            for number in range(options.rounds):
                await bench.round()
                print(f"round {number + 1} of {options.rounds}", flush=True)
            await migration.close()
            return bench.figures()
        finally:
            redis.stop()
            database.remove()


def main() -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    return publish("bench-move", uvloop.run(run(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
