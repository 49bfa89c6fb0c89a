"""A fleet in one process: several hosts with an owned store each, on a real Redis and a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from session_ops.bump import bump
from session_ops.fleet import Member
from session_ops.healing import Healing
from session_ops.owned_access import OwnedStore
from session_ops.settings import Flag, split_address
from session_ops.stores.connection import Connection
from session_ops.stores.legacy_database import Database
from session_ops.stores.library import load_library
from tests.conftest import administrator_connection
from tests.servers import SERVICE_PASSWORD, SERVICE_USER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.owned import OwnedSessionRepository
    from tests.servers import RedisServer

ON, OFF = Flag(use_redis_sessions=True, session_redis_percent=100), Flag(False, 100)


def connection_to(address: str, **settings: Any) -> Connection:
    """A connection of the service's user to HOST:PORT."""
    host, port = split_address(address)
    return Connection(host, port, username=SERVICE_USER, password=SERVICE_PASSWORD, **settings)


class Host:
    """One host: `repository` is what its service would serve from. `flag` may be set at any time.

    `address` is the Redis of its own settings. `member` runs only between `join` and `leave`: without it the host
    renews its lease by its requests alone, and heals nothing. It moves every session that it meets, unless told not to.
    """

    def __init__(
        self,
        number: int,
        address: str,
        url: str,
        *,
        lease: float,
        fallback_after: float = 15.0,
        return_after: float = 60.0,
        redis_deadline: float = 1.0,
        legacy_deadline: float | None = None,
        moves_per_second: float = 1_000,
        step: Callable[[str], Awaitable[None]] | None = None,
        **settings: Any,
    ) -> None:
        self.me = (f"app{number}", number)
        self.flag = ON
        self.bumps: list[str] = []
        self.moves: list[str] = []
        self.connection = connection_to(address, deadline=redis_deadline)
        self.store = OwnedStore(
            self.connection,
            Database(url, deadline=legacy_deadline or lease * 2 / 3),
            lambda: self.flag,
            lease=lease,
            moved=self.moves.append,
            on_failure=self._failed,
            moves_per_second=moves_per_second,
            **settings,
        )
        self.healing = Healing(
            self.store,
            me=self.me,
            own_address=address,
            connect=lambda other: connection_to(other, deadline=redis_deadline),
            partitions=1,
            lease=lease,
            fallback_after=fallback_after,
            return_after=return_after,
            bumped=self.bumps.append,
            step=step,
        )
        self.member = Member(self.store, self.healing, me=self.me, release="test", lease=lease)
        self._joined = False

    def _failed(self) -> None:
        self.member.failed()

    @property
    def repository(self) -> OwnedSessionRepository:
        """The sessions."""
        return self.store.repository

    async def join(self) -> Self:
        """Renew the lease, report and heal in the background."""
        await self.member.__aenter__()
        self._joined = True
        return self

    async def leave(self) -> None:
        """End the background work."""
        if self._joined:
            await self.member.__aexit__()
            self._joined = False

    async def close(self) -> None:
        """Leave, and close everything."""
        await self.leave()
        await self.store.close()
        await self.connection.close()


async def make_tables(store: OwnedStore) -> None:
    """Make all tables, with generation 0 and Redis off."""
    await store.legacy.create_schema()
    await store.database.create(store.control_schema.create)


async def empty_tables(store: OwnedStore) -> None:
    """Make the tables as if they had just been made."""
    async with store.database.engine.connect() as connection:
        for table in ("sessions", "session_leads", "session_hosts"):
            await connection.exec_driver_sql(f"DELETE FROM {table}")
        await connection.exec_driver_sql("UPDATE session_counters SET value = 0")
        await connection.exec_driver_sql(
            "UPDATE session_control SET generation = 0, prefix = NULL, pin = NULL, closing = NULL, closing_at = NULL,"
            " mode = 'mirror', redis = 'off', addresses = '', old_prefixes = '[]', bumped_at = '[]', identity = NULL"
        )


async def first_bump(host: Host, address: str) -> None:
    """Enable Redis as `migrate prepare` does, without the wait: nobody can hold a lease yet."""
    store = host.store.control_store
    await bump(store, await store.read(), target=host.connection, address=address, partitions=1, lease=0.0, lost=True)


async def load_functions(server: RedisServer) -> None:
    """What the unit on the Redis host does after every start."""
    administrator = administrator_connection(server)
    try:
        await load_library(administrator)
    finally:
        await administrator.close()


async def as_administrator(server: RedisServer, *command: Any) -> Any:
    """Run one command with all rights."""
    administrator = administrator_connection(server)
    try:
        return await administrator.call(*command, change=True)
    finally:
        await administrator.close()
