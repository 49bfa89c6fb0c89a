"""The legacy store under the contract suite: on PostgreSQL, and on SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest_asyncio
from sqlalchemy import update

from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_database import Database
from session_ops.stores.legacy_schema import Schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.postgresql import PostgreSQLServer


SESSIONS = Schema().sessions


class LegacyBackend:
    """`LegacySessionRepository` on a real database."""

    moves = False

    def __init__(self, url: str) -> None:
        self._url = url
        self._databases = [Database(url, deadline=10)]
        self._used = 0

    def repository(self, **settings: Any) -> LegacySessionRepository:
        """A repository with a pool of its own."""
        if self._used == len(self._databases):
            self._databases.append(Database(self._url, deadline=10))
        self._used += 1
        return LegacySessionRepository(self._databases[-1], **settings)

    async def pass_time(self, session_id: str, seconds: float) -> None:
        """Move the times in the row back."""
        columns = SESSIONS.c
        times = (columns.created_at, columns.updated_at, columns.expires_at)
        moved = {column.key: column - int(seconds * 1000) for column in times}
        async with self._databases[0].engine.connect() as connection:
            await connection.execute(update(SESSIONS).where(columns.id == session_id).values(moved))

    async def empty(self) -> None:
        """Empty the tables."""
        async with self._databases[0].engine.connect() as connection:
            for table in ("sessions", "session_leads"):
                await connection.exec_driver_sql(f"DELETE FROM {table}")
            await connection.exec_driver_sql("UPDATE session_counters SET value = 0")

    async def close(self) -> None:
        """Close every repository's pool."""
        for database in self._databases:
            await database.close()

    async def make(self) -> None:
        """Make the tables."""
        await self.repository().create_schema()


async def _with_tables(url: str) -> str:
    backend = LegacyBackend(url)
    await backend.make()
    await backend.close()
    return url


async def _emptied(url: str) -> AsyncIterator[LegacyBackend]:
    backend = LegacyBackend(url)
    await backend.empty()
    yield backend
    await backend.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgresql_url(postgresql_server: PostgreSQLServer) -> str:
    """A PostgreSQL that has the tables."""
    return await _with_tables(postgresql_server.url)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite file that has the tables."""
    return await _with_tables(f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/legacy.db")


@pytest_asyncio.fixture
async def postgresql(postgresql_url: str) -> AsyncIterator[LegacyBackend]:
    """An empty legacy store on PostgreSQL."""
    async for backend in _emptied(postgresql_url):
        yield backend


@pytest_asyncio.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[LegacyBackend]:
    """An empty legacy store on SQLite."""
    async for backend in _emptied(sqlite_url):
        yield backend
