"""Fixtures of the guards' tests: an empty fleet in its first generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.owned import empty_tables, make_tables
from tests.protocol.implementation.rig import Fleet
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.postgresql import PostgreSQLServer


async def _opened(redis: RedisServer, url: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(redis, url)
    await make_tables(fleet.by_hand.store)
    await empty_tables(fleet.by_hand.store)
    await fleet.open()
    yield fleet
    await fleet.close()


@pytest_asyncio.fixture
async def fleet(redis_server: RedisServer, postgresql_server: PostgreSQLServer) -> AsyncIterator[Fleet]:
    """On PostgreSQL."""
    async for opened in _opened(redis_server, postgresql_server.url):
        yield opened


@pytest_asyncio.fixture(params=["postgresql", "sqlite"])
async def either(
    request: pytest.FixtureRequest, redis_server: RedisServer, postgresql_server: PostgreSQLServer, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """On PostgreSQL, and on SQLite."""
    url = postgresql_server.url if request.param == "postgresql" else f"sqlite:///{tmp_path / 'legacy.db'}"
    async for opened in _opened(redis_server, url):
        yield opened


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def mortal(own_redis: RedisServer, postgresql_server: PostgreSQLServer) -> AsyncIterator[Fleet]:
    """On a Redis of its own."""
    async for opened in _opened(own_redis, postgresql_server.url):
        yield opened
