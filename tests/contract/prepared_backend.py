"""The legacy store under the contract suite, on a table that an application has made and `migrate prepare` prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from session_ops.stores.legacy import LegacySessionRepository
from tests.integration.migration.application import Application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.postgresql import PostgreSQLServer


class PreparedBackend:
    """`LegacySessionRepository` on a guarded table whose columns go by other names."""

    moves = False

    def __init__(self, application: Application) -> None:
        self._application = application

    def repository(self, **settings: object) -> LegacySessionRepository:
        """A repository on the application's table."""
        return self._application.repository(**settings)

    async def pass_time(self, session_id: str, seconds: float) -> None:
        """Move the times in the row back."""
        moved = ", ".join(
            f"{time} = {time} - {int(seconds * 1000)}" for time in ("created_at", "updated_at", "expires")
        )
        async with self._application.unguarded() as connection:
            await connection.exec_driver_sql(f"UPDATE {self._application.table} SET {moved} WHERE sid = '{session_id}'")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def prepared_postgresql_application(postgresql_server: PostgreSQLServer) -> tuple[str, str]:
    """A prepared table in PostgreSQL, which keeps attributes as text."""
    application = Application(postgresql_server.url, "contract")
    await application.sql("CREATE SCHEMA contract")
    await application.make(rows=1, data="TEXT")
    await application.prepare()
    await application.database.close()
    return application.url, "contract"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def prepared_sqlite_application(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, None]:
    """A prepared table in an SQLite file."""
    application = Application(f"sqlite:///{tmp_path_factory.mktemp('prepared')}/application.db", None)
    await application.make(rows=1)
    await application.prepare()
    await application.database.close()
    return application.url, None


async def _emptied(url: str, namespace: str | None) -> AsyncIterator[PreparedBackend]:
    application = Application(url, namespace)
    beside = f"{namespace}." if namespace else ""
    async with application.unguarded() as connection:
        await connection.exec_driver_sql(f"DELETE FROM {application.table}")
    await application.sql(f"UPDATE {beside}session_counters SET value = 0", f"DELETE FROM {beside}session_leads")
    yield PreparedBackend(application)
    await application.database.close()


@pytest_asyncio.fixture
async def prepared_postgresql(prepared_postgresql_application: tuple[str, str]) -> AsyncIterator[PreparedBackend]:
    """An empty prepared store on PostgreSQL."""
    async for backend in _emptied(*prepared_postgresql_application):
        yield backend


@pytest_asyncio.fixture
async def prepared_sqlite(prepared_sqlite_application: tuple[str, None]) -> AsyncIterator[PreparedBackend]:
    """An empty prepared store on SQLite."""
    async for backend in _emptied(*prepared_sqlite_application):
        yield backend
