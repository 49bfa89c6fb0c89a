"""A fleet under test: hosts in one process over a real Redis and a real database, with every fault they may have."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from session_ops.bump import BumpRefusedError, bump
from session_ops.errors import (
    RevisionConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from session_ops.generation import RedisGeneration
from session_ops.stores.replies import LOST
from tests.linearizability import History, Recorded
from tests.owned import Host, as_administrator, empty_tables, first_bump, load_functions, make_tables
from tests.protocol.stateful_steps import CrashError, Hooks
from tests.protocol.stateful_stores import Stores, Watch
from tests.protocol.stateful_trips import Trip

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from random import Random

    from tests.postgresql import PostgreSQLServer
    from tests.servers import RedisServer

LEASE: Final = 0.4
TTL: Final = 20
"""Seconds: a touch is due once a second."""
REDIS_DEADLINE: Final = 0.2
PAUSE: Final = 0.05
"""Seconds for which a step is delayed."""

ANSWERS: Final = (
    CrashError,
    StoreUnavailableError,
    SessionNotFoundError,
    SessionExistsError,
    RevisionConflictError,
    BumpRefusedError,
)
"""What an operation may end with, beside its answer."""


class Fleet:
    """`postgresql` is a private server that may be killed; None: the database behind `url` is a file."""

    def __init__(
        self,
        server: RedisServer,
        url: str,
        postgresql: PostgreSQLServer | None,
        hosts: int,
        *,
        lease: float = LEASE,
        redis_deadline: float = REDIS_DEADLINE,
    ) -> None:
        self._lease, self._redis_deadline = lease, redis_deadline
        self.server, self.url, self.postgresql = server, url, postgresql
        self.address = f"127.0.0.1:{server.port}"
        self.history = History()
        self.hooks = Hooks(PAUSE)
        self.watch = Watch()
        self.hosts = [self._host(number) for number in range(hosts)]
        self._auditor = Host(99, self.address, url, lease=lease, legacy_deadline=5.0, ttl=TTL)
        self.stores = Stores(server, self._auditor.store)
        # Steps of this one are not hooked: it stands for a tool, which dies between its own
        self._operator = Host(98, self.address, url, lease=lease, legacy_deadline=5.0, moves_per_second=1e9, ttl=TTL)
        self.trips: Counter[str] = Counter()

    def _host(self, number: int) -> Host:
        host = Host(number, self.address, self.url, lease=self._lease, redis_deadline=self._redis_deadline, ttl=TTL)
        self.hooks.install(host)
        return host

    def client(self, host: Host, by: str) -> Recorded:
        """A client of one host, whose calls are recorded."""
        return Recorded(host.repository, self.history, by=by, ttl=TTL)

    async def open(self) -> None:
        """Begin with an empty Redis, empty tables and a first generation."""
        await as_administrator(self.server, "FLUSHALL")
        await load_functions(self.server)
        await make_tables(self._auditor.store)
        await empty_tables(self._auditor.store)
        await first_bump(self._auditor, self.address)

    async def close(self) -> None:
        """Close every host."""
        await self.settle()
        await self.stores.close()
        for host in [*self.hosts, self._auditor, self._operator]:
            await host.close()

    async def settle(self) -> None:
        """Wait until nothing is under way any more, in the stores neither."""
        await self.hooks.quiesce()
        for host in self.hosts:
            while host.store.database._calls:
                await asyncio.wait(list(host.store.database._calls))
        if self.postgresql is not None:
            running = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE state <> 'idle' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            engine = self._auditor.store.database.engine
            while True:
                async with engine.connect() as connection:
                    if not (await connection.exec_driver_sql(running)).scalar_one():
                        break
                await asyncio.sleep(0.01)

    async def dead_reason(self) -> str | None:
        """What the server answers for the generation in force; None: it is alive. "" where there is no server."""
        control = (await self._auditor.store.steps.get("nobody")).control
        if control.prefix is None:
            return ""
        generation: RedisGeneration = self._auditor.store.redis_at(self._auditor.connection, control)
        try:
            await generation.probe()
        except StoreUnavailableError as error:
            return error.reason
        return None

    async def bump(self, host: Host, *, to_redis: bool = True, crash_at: str | None = None) -> None:
        """Bump through a host, or begin to; refusals are as good as another's bump."""

        async def step(name: str) -> None:
            if name == crash_at:
                raise CrashError(name)

        store = host.store.control_store
        with suppress(BumpRefusedError, StoreUnavailableError):
            lost = await self.dead_reason() == LOST
            target = host.connection if to_redis else None
            seen = await store.read()
            await bump(
                store, seen, target=target, address=self.address, partitions=1, lease=self._lease, lost=lost, step=step
            )

    async def trip(self, chance: Random) -> None:
        """To final and back, or as far as chance wants."""
        self.trips[await Trip(self._operator, self._lease).take(chance)] += 1

    async def cancel(self) -> None:
        """Cancel whatever bump is under way."""
        store = self.hosts[0].store.control_store
        with suppress(StoreUnavailableError):
            await store.cancel((await store.read()).generation)

    async def freeze_redis(self, seconds: float) -> None:
        """Let it stand still."""
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.server.pid, signal.SIGCONT)
        await asyncio.sleep(0.02)  # what arrived meanwhile is done now

    async def restart_redis(self, cut: int) -> None:
        """Kill it and start it again, without the last `cut` bytes of what it has written down."""
        await asyncio.to_thread(self.server.kill)
        logs = sorted((self.server.directory / "appendonlydir").glob("*.incr.aof"))
        if logs and cut:
            size = logs[-1].stat().st_size
            os.truncate(logs[-1], max(0, size - cut))
        await asyncio.to_thread(self.server.start)
        while True:
            try:
                await load_functions(self.server)
            except StoreUnavailableError:
                await asyncio.sleep(0.02)  # it is still reading its file
            else:
                break

    async def freeze_legacy(self, seconds: float) -> None:
        """Let the database stand still: PostgreSQL's processes, or SQLite's file under somebody's lock."""
        if self.postgresql is not None:
            self.postgresql.freeze()
            try:
                await asyncio.sleep(seconds)
            finally:
                self.postgresql.thaw()
            return
        async with self._auditor.store.database.engine.connect() as connection:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            await asyncio.sleep(seconds)
            await connection.exec_driver_sql("ROLLBACK")

    async def restart_legacy(self) -> None:
        """Kill the database and start it again; a file is only locked for a while."""
        if self.postgresql is None:
            await self.freeze_legacy(0.3)
            return
        await asyncio.to_thread(self.postgresql.kill)
        await asyncio.to_thread(self.postgresql.start)
        await self._again(self._auditor.store.control_store.read())

    async def _again(self, first: Coroutine[Any, Any, Any]) -> None:
        with suppress(StoreUnavailableError):
            await first  # the pool learns that its connections are gone


async def gather(*work: Coroutine[Any, Any, Any]) -> None:
    """Run clients and faults at once; whatever is not an answer of `ANSWERS` is raised."""
    for ended in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(ended, BaseException) and not isinstance(ended, ANSWERS):
            raise ended
