"""`backend` and `repository`, parametrised over every implementation."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from session_ops.records import NewSession, Session
from tests.contract.backends import Backend, RedisBackend
from tests.contract.legacy_backend import postgresql, postgresql_url, sqlite, sqlite_url
from tests.contract.owned_backend import owned_postgresql, owned_sqlite
from tests.contract.prepared_backend import (
    prepared_postgresql,
    prepared_postgresql_application,
    prepared_sqlite,
    prepared_sqlite_application,
)
from tests.servers import PROGRAMS, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.stores.connection import Connection
    from session_ops.stores.contract import SessionRepository
    from session_ops.stores.redis import RedisSessionRepository

__all__ = [
    "owned_postgresql",
    "owned_sqlite",
    "postgresql",
    "postgresql_url",
    "prepared_postgresql",
    "prepared_postgresql_application",
    "prepared_sqlite",
    "prepared_sqlite_application",
    "sqlite",
    "sqlite_url",
]  # fixtures that pytest finds here

SQL = ("postgresql", "sqlite", "prepared_postgresql", "prepared_sqlite")
"""The stores below which there is a database; `prepared`: a table that an application has made."""

_numbers = itertools.count(1)


PARTITIONED = "redis-7.0 in 256 partitions"
"""As on a Cluster."""


OWNED = ("owned_postgresql", "owned_sqlite")
"""Both stores at once, with flags that flip; Redis is this host's own."""


@pytest.fixture(params=[*PROGRAMS, PARTITIONED, *SQL, *OWNED])
def store(request: pytest.FixtureRequest) -> str:
    """What is below the repositories."""
    name: str = request.param
    return name


@pytest.fixture
def redis_server(store: str, run_redis: Callable[[str], RedisServer]) -> RedisServer:
    """The server of this test's program."""
    return run_redis(next(iter(PROGRAMS)) if store in OWNED else store.split(maxsplit=1)[0])


@pytest_asyncio.fixture
async def redis(
    store: str, make_repository: Callable[..., RedisSessionRepository], administrator: Connection
) -> RedisBackend:
    """An open generation in an empty Redis."""
    await administrator.call("FLUSHDB", change=True)
    partitions = 256 if store == PARTITIONED else 1
    made = RedisBackend(make_repository, administrator, f"1-contract{next(_numbers)}", partitions)
    await made.repository().open_generation()
    return made


@pytest.fixture
def backend(store: str, request: pytest.FixtureRequest) -> Backend:
    """An implementation on an empty store."""
    made: Backend = request.getfixturevalue(store if store in (*SQL, *OWNED) else "redis")
    return made


@pytest.fixture
def repository(backend: Backend) -> SessionRepository:
    """A repository with the default settings."""
    return backend.repository()


@pytest_asyncio.fixture
async def session(repository: SessionRepository) -> Session:
    """A session that just exists."""
    return await repository.create(NewSession(user_id="ann", agent_id="helper", data={"step": 1, "notes": ["a", "b"]}))
