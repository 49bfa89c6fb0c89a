"""Measures sessions with an owner each, mirrored: `python -m tests.bench.owned`.

Two hosts in this process, a real Redis and a real PostgreSQL that syncs its commits. Ratios are of two things measured
right after one another, several times; the median counts. Silences are what one client waits who repeats its request.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop
from sqlalchemy import bindparam, update

from session_ops.errors import StoreUnavailableError
from session_ops.ownership import MOVES_PER_SECOND
from session_ops.records import NewSession
from session_ops.stores.legacy_prepared import Statement
from session_ops.stores.redis import RedisSessionRepository
from tests.bench.report import Figure, publish
from tests.bench.store import CALLERS, DATA
from tests.owned import (
    OFF,
    ON,
    Host,
    as_administrator,
    connection_to,
    empty_tables,
    first_bump,
    load_functions,
    make_tables,
)
from tests.postgresql import PostgreSQLServer
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LEASE, FALLBACK_AFTER = 3.0, 15.0
"""Seconds: the settings' defaults."""
SESSIONS = 2_000


async def rate(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    """Calls per second with so many callers at once."""
    done = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call()
            done += 1

    await asyncio.gather(*[caller() for _ in range(CALLERS)])
    return done / seconds


class Fleet:
    """Two hosts, their stores, and the sessions that they serve."""

    def __init__(self, redis: RedisServer, database: PostgreSQLServer) -> None:
        self.redis = redis
        self.address = f"127.0.0.1:{redis.port}"
        self.hosts = [
            Host(
                number,
                self.address,
                database.url,
                lease=LEASE,
                fallback_after=FALLBACK_AFTER,
                moves_per_second=MOVES_PER_SECOND,
            )
            for number in (1, 2)
        ]
        self._mover = Host(3, self.address, database.url, lease=LEASE)
        self.ids: list[str] = []

    async def start(self) -> None:
        """An empty fleet in its first generation, with its sessions in Redis."""
        await make_tables(self.hosts[0].store)
        await empty_tables(self.hosts[0].store)
        await first_bump(self.hosts[0], self.address)
        for host in self.hosts:
            await host.join()
        new = NewSession(user_id="ann", data=DATA)
        for _ in range(SESSIONS // CALLERS):
            made = await asyncio.gather(*[self.hosts[0].repository.create(new) for _ in range(CALLERS)])
            self.ids += [session.id for session in made]

    async def settle(self) -> None:
        """Every session in Redis again, and no bump remembered."""
        async with self.hosts[0].store.database.engine.connect() as connection:
            await connection.exec_driver_sql("UPDATE session_control SET bumped_at = '[]'")
        for start in range(0, SESSIONS, CALLERS):
            await self._mover.store.steps.control()
            await asyncio.gather(*map(self._mover.repository.get, self.ids[start : start + CALLERS]))

    async def close(self) -> None:
        """Close the hosts."""
        for host in [*self.hosts, self._mover]:
            await host.close()


async def reads(
    fleet: Fleet, final: RedisSessionRepository, ids: list[str], options: argparse.Namespace
) -> list[Figure]:
    """A read of a mirrored session against one in mode final, and what it costs beside."""
    owned = fleet.hosts[0].repository
    mine, theirs = itertools.cycle(fleet.ids), itertools.cycle(ids)
    ratios = []
    # What the sessions' creation has left to do, PostgreSQL's checkpoint above all, shares a core with Redis
    for call in (lambda: owned.get(next(mine)), lambda: final.get(next(theirs))) * 2:
        await rate(call, 2 * options.seconds)
    statements = count_statements(fleet.hosts[0])
    before = statements[0]
    looks = 0.0
    seconds = options.seconds / 3  # many short pairs: other work then disturbs some of them and not the median
    for _ in range(3 * options.rounds):
        one = await rate(lambda: owned.get(next(mine)), seconds)
        other = await rate(lambda: final.get(next(theirs)), seconds)
        ratios.append(one / other)
        looks += one * seconds
    # The lease's own looks and the fleet's reports go on meanwhile, whatever is read: some ten a second
    return [
        Figure(name="read with the mirror on / read in mode final", unit="ratio", runs=ratios, goal=">= 0.9"),
        Figure(
            name="SQL statements per read with the mirror on", unit="", runs=[(statements[0] - before) / looks],
            goal="<= 0.01",
        ),
    ]  # fmt: skip


def count_statements(host: Host) -> list[int]:
    """How many statements the host's database has been sent, from now on."""
    counted = [0]
    database = host.store.database

    def counting(inner: Any) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            counted[0] += 1
            return await inner(*arguments, **named)

        return call

    for name in ("read", "read_apart", "change", "change_together"):
        setattr(database, name, counting(getattr(database, name)))
    return counted


async def writes(fleet: Fleet, options: argparse.Namespace) -> list[Figure]:
    """A mirrored write against an UPDATE of the same rows, each by a statement of its own through the same pool."""
    host = fleet.hosts[0]
    ids, numbers = itertools.cycle(fleet.ids), itertools.count()
    database, sessions = host.store.database, host.store.schema.sessions
    bare = Statement(
        lambda: (
            update(sessions)
            .where(sessions.c.id == bindparam("session"))
            .values(data=database.dialect.data(), updated_at=database.dialect.now(), version=sessions.c.version)
            .returning(sessions.c.id)
        ),
        database.engine.dialect,
    )
    data = msgspec.json.encode(DATA).decode()

    async def one_update() -> None:
        await database.change(bare, session=next(ids), data=data)

    async def mirrored() -> None:
        await host.repository.update(next(ids), changes={"visits": next(numbers)})

    alone, together = [], []
    for _ in range(options.rounds):
        grouped = await rate(mirrored, options.seconds)
        together.append(grouped / await rate(one_update, options.seconds))
        alone.append(grouped / await one_after_the_other(one_update, options.seconds))
    return [
        Figure(name="mirrored write / UPDATE one by one", unit="ratio", runs=alone, goal=">= 3"),
        Figure(name="mirrored write / UPDATE, 50 at once through the pool", unit="ratio", runs=together),
    ]


async def one_after_the_other(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    """Calls per second of a single caller."""
    done, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        await call()
        done += 1
    return done / seconds


async def silence(fleet: Fleet, inject: Callable[[], Awaitable[object]], seconds: float) -> float:
    """The longest that a read or a change of one session goes unanswered, by either host, when `inject` is done."""
    await fleet.settle()
    longest = 0.0
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal longest
        host, session_id = fleet.hosts[number % 2], fleet.ids[number]
        asked = time.perf_counter()
        while time.perf_counter() < end:
            try:
                await host.repository.update(session_id, changes={"visits": number})
                await host.repository.get(session_id)
            except StoreUnavailableError:
                await asyncio.sleep(0.02)
            else:
                longest = max(longest, time.perf_counter() - asked)
                await asyncio.sleep(0.005)
                asked = time.perf_counter()
        longest = max(longest, time.perf_counter() - asked)

    clients = [asyncio.ensure_future(client(number)) for number in range(10)]
    await asyncio.sleep(0.5)
    await inject()
    await asyncio.gather(*clients)
    return longest


async def silences(fleet: Fleet, options: argparse.Namespace) -> list[Figure]:
    """After FLUSHALL, after a kill and restart, and after Redis has gone for good."""

    async def flush() -> None:
        await as_administrator(fleet.redis, "FLUSHALL")

    async def restart() -> None:
        fleet.redis.kill()
        await asyncio.to_thread(fleet.redis.start)

    async def stop() -> None:
        fleet.redis.kill()

    flushed = [await silence(fleet, flush, 5) for _ in range(options.faults)]
    restarted = [await silence(fleet, restart, LEASE + 8) for _ in range(options.faults)]
    gone = [await silence(fleet, stop, FALLBACK_AFTER + LEASE + 8)]
    return [
        Figure(name="silence after FLUSHALL", unit="s", runs=flushed, goal="<= 2"),
        Figure(name="silence after kill -9 and restart", unit="s", runs=restarted, goal=f"<= {LEASE + 4:g}"),
        Figure(
            name="silence after Redis has gone for good", unit="s", runs=gone, goal=f"<= {FALLBACK_AFTER + LEASE + 4:g}"
        ),
    ]  # fmt: skip


async def flips(fleet: Fleet, options: argparse.Namespace) -> list[Figure]:
    """The flag flipped host by host under load, off and on again: failed requests, and the p99 against that before."""
    await fleet.settle()
    failed, ratios = 0, []
    chosen = random.Random(1)  # noqa: S311 - which session comes next, no secret

    async def load(seconds: float) -> float:
        nonlocal failed
        times: list[float] = []
        end = time.perf_counter() + seconds

        async def client(number: int) -> None:
            nonlocal failed
            while time.perf_counter() < end:
                host, session_id = fleet.hosts[number % 2], chosen.choice(fleet.ids)
                asked = time.perf_counter()
                try:
                    if number % 4:
                        await host.repository.get(session_id)
                    else:
                        await host.repository.update(session_id, changes={"visits": number})
                except StoreUnavailableError:
                    failed += 1
                times.append(time.perf_counter() - asked)
                await asyncio.sleep(0.01)

        await asyncio.gather(*[client(number) for number in range(20)])
        return statistics.quantiles(times, n=100)[98]

    for _ in range(options.faults):
        before = await load(4)
        during = asyncio.ensure_future(load(8))
        for host, flag in ((0, OFF), (1, OFF), (0, ON), (1, ON)):
            await asyncio.sleep(1.5)
            fleet.hosts[host].flag = flag
        ratios.append(await during / before)
    return [
        Figure(name="requests failed while the flag was flipped host by host", unit="", runs=[failed], goal="<= 0"),
        Figure(name="p99 while it was flipped / p99 before", unit="ratio", runs=ratios, goal="<= 3"),
    ]


async def run(options: argparse.Namespace) -> list[Figure]:
    """Measure everything on servers of its own."""
    # The servers inherit their core, and this process then has the other
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as directory:
        redis = RedisServer(Path(directory) / "redis").start()
        database = PostgreSQLServer(fsync="on", full_page_writes="on").start()
        try:
            os.sched_setaffinity(0, {0})
            await load_functions(redis)
            address = f"127.0.0.1:{redis.port}"
            connection = connection_to(address)
            final = RedisSessionRepository(connection, prefix="1-final")
            await final.open_generation()
            ids = [(await final.create(NewSession(user_id="ann", data=DATA))).id for _ in range(SESSIONS)]
            fleet = Fleet(redis, database)
            await fleet.start()
            figures = await reads(fleet, final, ids, options)
            figures += await writes(fleet, options)
            await connection.close()
            figures += await flips(fleet, options)
            figures += await silences(fleet, options)
            await fleet.close()
            return figures
        finally:
            redis.stop()
            database.remove()


def main() -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each single measurement")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--faults", type=int, default=3, help="how often each fault is injected, the long one once")
    return publish("bench-owned", uvloop.run(run(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
