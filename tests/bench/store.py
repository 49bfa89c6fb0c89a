"""Measures the Redis repository against bare commands and redis-py: `python -m tests.bench.store`.

Each figure is a ratio of two things measured right after one another, several times; the median counts. This process
has one core and Redis the other, with 50 callers in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import redis.asyncio as redis_py
import uvloop

from session_ops.records import NewSession
from session_ops.stores.connection import Connection
from session_ops.stores.layout import Names, pack_control
from session_ops.stores.library import LIBRARY, NO_PIN, load_library
from session_ops.stores.link import Exchange
from session_ops.stores.redis import RedisSessionRepository
from session_ops.stores.replies import pack
from tests.bench.report import Figure, publish
from tests.fake_redis import Proxy
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, RedisServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from session_ops.errors import StoreUnavailableError
    from session_ops.stores.replies import Argument

CALLERS = 50
LOGIN = {"username": ADMINISTRATOR, "password": ADMINISTRATOR_PASSWORD}
PREFIX = "1-bench"
NAMES = Names(PREFIX, 0)
BARE_INDEX = NAMES.generation.replace(b"generation:", b"sessions:") + b":bare"
"""The sorted set of all sessions by expiry that the bare commands keep. Ours knows only those near their end."""
# 600 bytes in eight attributes: what a web application keeps of a visitor, with one small cart
DATA: dict[str, Any] = {
    "locale": "en-GB", "csrf": "c" * 43, "visits": 17, "last_page": "/account/orders/2025/overview?page=2",
    "cart": [{"sku": "article-1", "count": 1}, {"sku": "article-2", "count": 2}],
    "flags": {"beta": True, "tour": False},
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "notes": "x" * 256,
}  # fmt: skip


class Bare:
    """Commands of a tick in one write with nothing around them: the yardstick on the same connection."""

    def __init__(self, connection: Connection, per_call: int) -> None:
        self._connection = connection
        self._per_call = per_call
        self._waiting: list[tuple[bytes, asyncio.Future[Any]]] = []

    def add(self, commands: bytes) -> asyncio.Future[Any]:
        """Send commands in this tick; the future has the first reply."""
        self._connection.admit()
        if not self._waiting:
            self._connection.enlist(self)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, future))
        return future

    def emit(self) -> Iterator[Exchange]:
        """Return them all as one exchange."""
        waiting, self._waiting = self._waiting, []
        futures = [future for _, future in waiting]
        yield Exchange(
            b"".join([commands for commands, _ in waiting]),
            len(waiting) * self._per_call,
            partial(self._answer, futures),
            partial(_fail, futures),
            change=False,
            calls=len(waiting),
        )

    def _answer(self, futures: list[asyncio.Future[Any]], replies: list[Any]) -> None:
        for index, future in enumerate(futures):
            future.set_result(replies[index * self._per_call])


def _fail(futures: list[asyncio.Future[Any]], error: StoreUnavailableError) -> None:
    for future in futures:
        future.set_exception(error)


class Bench:
    """One real Redis, and what is measured on it."""

    def __init__(self, server: RedisServer, seconds: float, rounds: int) -> None:
        self.server = server
        self.seconds = seconds
        self.rounds = rounds
        self.connection = Connection("127.0.0.1", server.port, deadline=10.0, **LOGIN)  # type: ignore[arg-type]
        self.repository = self.make(86_400)
        self.pool = redis_py.Redis(port=server.port, max_connections=CALLERS, **LOGIN)  # type: ignore[arg-type]
        self.ids: list[str] = []
        self._bare_get = Bare(self.connection, 1)
        self._bare_update = Bare(self.connection, 3)

    def make(self, ttl: int) -> RedisSessionRepository:
        """A repository on the bench's connection."""
        return RedisSessionRepository(self.connection, prefix=PREFIX, ttl=ttl)

    async def fill(self, number: int, ttl: int = 86_400) -> None:
        """Empty Redis and create sessions: ten per user, a hundred per agent."""
        await self.connection.call("FLUSHALL", change=True)
        await load_library(self.connection)
        repository = self.make(ttl)
        await repository.open_generation()
        self.ids = []
        for start in range(0, number, 1_000):
            made = await asyncio.gather(
                *[
                    repository.create(NewSession(user_id=f"user-{n // 10}", agent_id=f"agent-{n // 100}", data=DATA))
                    for n in range(start, min(number, start + 1_000))
                ]
            )
            self.ids.extend(session.id for session in made)

    async def settle(self) -> None:
        """Have every session behind its first change, which moves its expiry, and in the index of the bare commands.

        A small store has that behind it after a moment; in a large one nearly every change would be a first one.
        """
        expires = int(time.time() * 1000) + 86_400_000
        for start in range(0, len(self.ids), 1_000):
            some = self.ids[start : start + 1_000]
            await asyncio.gather(*[self.repository.touch(session_id) for session_id in some])
            members = [part for session_id in some for part in (expires, session_id)]
            await self.connection.call("ZADD", BARE_INDEX, *members, change=True)

    async def rate(self, operation: Callable[[str], Awaitable[Any]], *, in_order: bool = False) -> float:
        """Calls per second with `CALLERS` in flight, of random sessions or of one after another."""
        ids = itertools.cycle(self.ids)
        choose: Callable[[], str] = (lambda: next(ids)) if in_order else partial(random.choice, self.ids)
        stop = time.perf_counter() + self.seconds
        done = 0

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < stop:
                await operation(choose())
                done += 1

        started = time.perf_counter()
        await asyncio.gather(*[caller() for _ in range(CALLERS)])
        return done / (time.perf_counter() - started)

    async def ratios(
        self,
        ours: Callable[[str], Awaitable[Any]],
        theirs: Callable[[str], Awaitable[Any]],
        *,
        in_order: bool = False,
    ) -> list[float]:
        """Our rate over theirs, measured in turn."""
        for operation in (ours, theirs):
            await self.rate(operation, in_order=in_order)
        found = []
        for _ in range(self.rounds):
            one = await self.rate(ours, in_order=in_order)
            other = await self.rate(theirs, in_order=in_order)
            found.append(one / other)
        return found

    # What is compared

    async def get(self, session_id: str) -> None:
        """Our read of a session that nobody asks for its data: who is it, and does it live."""
        assert await self.repository.get(session_id) is not None

    async def get_data(self, session_id: str) -> None:
        """Our read, with the data decoded."""
        session = await self.repository.get(session_id)
        assert session is not None
        assert session.data

    async def bare_get(self, session_id: str) -> None:
        """An HGETALL on the same connection."""
        await self._bare_get.add(pack((b"HGETALL", NAMES.session_key(session_id))))

    async def redis_py_get(self, session_id: str) -> None:
        """An HGETALL of redis-py."""
        await self.pool.hgetall(NAMES.session_key(session_id))

    async def change(self, session_id: str) -> None:
        """Our change of one attribute."""
        await self.repository.change(session_id, changes={"visits": 18})

    async def update(self, session_id: str) -> None:
        """Our change of one attribute, answered with the whole session."""
        await self.repository.update(session_id, changes={"visits": 18})

    async def bare_update(self, session_id: str) -> None:
        """HSET, PEXPIREAT and ZADD on the same connection."""
        key, expires = NAMES.session_key(session_id), int(time.time() * 1000) + 86_400_000
        await self._bare_update.add(
            pack((b"HSET", key, b"visits", b"18"))
            + pack((b"PEXPIREAT", key, expires))
            + pack((b"ZADD", BARE_INDEX, expires, session_id))
        )

    async def redis_py_update(self, session_id: str) -> None:
        """The same function, called by redis-py."""
        arguments: tuple[Argument, ...] = (
            7_200_000,
            86_400_000,
            0,
            65_536,
            512,
            pack_control(1, 0, b"8 bytes.", b""),
            b"visits",
            b"18",
        )
        await self.pool.fcall(
            f"{LIBRARY}_update", 2, NAMES.generation, NAMES.session_key(session_id), *arguments, NO_PIN
        )

    async def moved(self, session_id: str) -> None:
        """Our change where the expiry moves every time: the TTL grows from one pass over the sessions to the next."""
        self.moves += 1
        await self.growing[self.moves // len(self.ids)].change(session_id, changes={"visits": 18})

    async def speed(self) -> list[Figure]:
        """The figures of reads and changes."""
        await self.fill(10_000)
        await self.settle()
        figures = [
            Figure(
                name="get / redis-py pool", unit="x", runs=await self.ratios(self.get, self.redis_py_get), goal=">= 5"
            ),
            Figure(
                name="get and its data / redis-py pool",
                unit="x",
                runs=await self.ratios(self.get_data, self.redis_py_get),
            ),
            Figure(
                name="change / redis-py pool, same function",
                unit="x",
                runs=await self.ratios(self.change, self.redis_py_update),
                goal=">= 4",
            ),
            Figure(name="get / bare HGETALL", unit="x", runs=await self.ratios(self.get, self.bare_get), goal=">= 0.7"),
            Figure(
                name="get and its data / bare HGETALL", unit="x", runs=await self.ratios(self.get_data, self.bare_get)
            ),
            Figure(
                name="change, expiry stays / bare HSET PEXPIREAT ZADD",
                unit="x",
                runs=await self.ratios(self.change, self.bare_update),
                goal=">= 0.9",
            ),
            Figure(
                name="update with answer / bare HSET PEXPIREAT ZADD",
                unit="x",
                runs=await self.ratios(self.update, self.bare_update),
            ),
            Figure(name="get", unit="/s", runs=[await self.rate(self.get) for _ in range(self.rounds)]),
            Figure(name="change", unit="/s", runs=[await self.rate(self.change) for _ in range(self.rounds)]),
        ]
        await self.fill(5_000, ttl=60)
        self.moves = 0
        # A step is a twentieth of the TTL, so 6 % more moves every expiry; hours at the end, so few cross a day
        self.growing = [self.make(int(60 * 1.06**passed)) for passed in range(1, 120)]
        before, done = await self._count("pexpireat"), await self._count("hmget")
        await self.rate(self.moved, in_order=True)
        share = (await self._count("pexpireat") - before) / (await self._count("hmget") - done)
        runs = []
        for _ in range(self.rounds):
            one = await self.rate(self.moved, in_order=True)
            runs.append(one / await self.rate(self.bare_update, in_order=True))
        figures.append(
            Figure(name="change, expiry moves / bare HSET PEXPIREAT ZADD", unit="x", runs=runs, goal=">= 0.6")
        )
        figures.append(Figure(name="share of changes that moved it", unit="", runs=[share], goal=">= 0.9"))
        return figures

    async def _count(self, command: str) -> int:
        lines = (await self.connection.call("INFO", "commandstats")).decode().splitlines()
        found = [line for line in lines if line.startswith(f"cmdstat_{command}:")]
        return int(found[0].split("calls=")[1].split(",")[0]) if found else 0

    async def memory(self, number: int = 20_000) -> list[Figure]:
        """Bytes per session against one JSON string."""

        async def used() -> int:
            await self.connection.call("MEMORY", "PURGE")
            lines = (await self.connection.call("INFO", "memory")).decode().splitlines()
            return next(int(line.split(":")[1]) for line in lines if line.startswith("used_memory:"))

        await self.connection.call("FLUSHALL", change=True)
        empty = await used()
        await self.fill(number)
        ours = (await used() - empty) / number
        await self.connection.call("FLUSHALL", change=True)
        empty = await used()
        text = msgspec.json.encode(DATA)
        for start in range(0, number, 1_000):
            await asyncio.gather(
                *[
                    self.connection.call("SET", f"session:{session_id}", text, "PX", 86_400_000, change=True)
                    for session_id in self.ids[start : start + 1_000]
                ]
            )
        plain = (await used() - empty) / number
        return [
            Figure(name="bytes per session", unit="B", runs=[ours]),
            Figure(name=f"bytes of one JSON string ({len(text)} B) with TTL", unit="B", runs=[plain]),
            Figure(name="bytes per session / one JSON string", unit="x", runs=[ours / plain], goal="<= 1.5"),
        ]

    async def growth(self, small: int, large: int) -> list[Figure]:
        """How much dearer our operations get with the number of sessions, against bare commands."""
        costs: dict[str, list[float]] = {}
        operations = {
            "get": self.get,
            "bare get": self.bare_get,
            "change": self.change,
            "bare change": self.bare_update,
        }
        for number in (small, large):
            await self.fill(number)
            await self.settle()
            rates: dict[str, list[float]] = {name: [] for name in operations}
            for _ in range(self.rounds):
                for name, operation in operations.items():
                    rates[name].append(await self.rate(operation))
            for name, found in rates.items():
                costs.setdefault(name, []).append(1 / statistics.median(found))
        figures = []
        for name in ("get", "change"):
            ours, bare = (costs[kind][1] / costs[kind][0] for kind in (name, f"bare {name}"))
            title = f"growth of {name} from {small:,} to {large:,} sessions / bare"
            figures.append(Figure(name=title, unit="x", runs=[ours / bare], goal="<= 1.1"))
        return figures

    async def pages(self) -> list[Figure]:
        """Round trips and time of a page of a large user."""
        await self.fill(0)
        for _ in range(10):
            await asyncio.gather(
                *[self.repository.create(NewSession(user_id="large", data=DATA)) for _ in range(1_000)]
            )
        async with Proxy(self.server.port) as proxy:
            connection = Connection("127.0.0.1", proxy.port, **LOGIN)  # type: ignore[arg-type]
            repository = RedisSessionRepository(connection, prefix=PREFIX)
            page = await repository.list_sessions(user_id="large", limit=100)
            before = proxy.turns
            await repository.list_sessions(user_id="large", limit=100, cursor=page.cursor)
            trips = proxy.turns - before
            await connection.close()
        times = []
        for _ in range(self.rounds):
            started = time.perf_counter()
            await self.repository.list_sessions(user_id="large", limit=100, cursor=page.cursor)
            times.append((time.perf_counter() - started) * 1000)
        return [
            Figure(name="round trips of a page of 100 of 10,000", unit="", runs=[trips], goal="<= 1"),
            Figure(name="time of that page", unit="ms", runs=times),
        ]


async def run(arguments: argparse.Namespace) -> list[Figure]:
    """Start Redis, measure, stop it."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory) / "redis").start()
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(server.pid, {1})
            os.sched_setaffinity(0, {0})
        # As the service does once it has started: neither side of a pair is to pay for the other's garbage
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        bench = Bench(server, arguments.seconds, arguments.rounds)
        try:
            figures = [*await bench.speed(), *await bench.memory(), *await bench.pages()]
            if arguments.sessions:
                figures.extend(await bench.growth(10_000, arguments.sessions))
            return figures
        finally:
            await bench.pool.aclose()
            await bench.connection.close()
            server.kill()


def main() -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each single measurement")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sessions", type=int, default=1_000_000, help="for growth; 0 leaves it out")
    return publish("bench-store", uvloop.run(run(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
