"""Applications on both databases."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.integration.migration.application import Application
from tests.integration.migration.moving import Migration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.postgresql import PostgreSQLServer
    from tests.servers import RedisServer

_numbers = itertools.count(1)


@pytest_asyncio.fixture
async def on_postgresql(postgresql_server: PostgreSQLServer) -> AsyncIterator[Application]:
    """An application on PostgreSQL, without a table."""
    made = Application(postgresql_server.url, f"prepare{next(_numbers)}")
    await made.sql(f"CREATE SCHEMA {made.namespace}")
    yield made
    await made.sql(f"DROP SCHEMA {made.namespace} CASCADE")
    await made.database.close()


@pytest_asyncio.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Application]:
    """An application on SQLite, without a table."""
    made = Application(f"sqlite:///{tmp_path}/application.db", None)
    yield made
    await made.database.close()


@pytest.fixture(params=["on_postgresql", "on_sqlite"])
def application(request: pytest.FixtureRequest) -> Application:
    """An application on either, without a table."""
    made: Application = request.getfixturevalue(request.param)
    return made


@pytest_asyncio.fixture
async def migration(application: Application, redis_server: RedisServer) -> AsyncIterator[Migration]:
    """A migration on either database that has not been opened."""
    made = Migration(application, redis_server)
    yield made
    await made.close()
