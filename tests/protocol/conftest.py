"""Fixtures of the tests that run the protocol on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.protocol.stateful_fleet import Fleet
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.postgresql import PostgreSQLServer

    OpenFleet = Callable[..., Awaitable[Fleet]]


@pytest.fixture(scope="package")
def breakable_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that is killed, frozen and cut."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def open_fleet(
    breakable_redis: RedisServer, postgresql_server: PostgreSQLServer, tmp_path: Path
) -> AsyncIterator[OpenFleet]:
    """Opens a fleet on `postgresql` or `sqlite`, in its first generation; leases are long unless given."""
    opened: list[Fleet] = []

    async def open_(database: str = "postgresql", hosts: int = 2, **settings: Any) -> Fleet:
        url = postgresql_server.url if database == "postgresql" else f"sqlite:///{tmp_path}/sessions.db"
        settings = {"lease": 6.0, "redis_deadline": 2.0, **settings}
        opened.append(Fleet(breakable_redis, url, None, hosts, **settings))
        await opened[-1].open()
        for host in opened[-1].hosts:
            await host.store.steps.control()  # as they do when they start: they know Redis, and have a lease
        return opened[-1]

    yield open_
    for fleet in opened:
        await fleet.close()
