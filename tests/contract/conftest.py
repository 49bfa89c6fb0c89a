"""`backend` and `repository`, parametrised over every implementation."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from session_ops.records import NewSession, Session
from tests.contract.backends import Backend, RedisBackend
from tests.contract.legacy_backend import postgresql, postgresql_url, sqlite, sqlite_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.stores.connection import Connection
    from session_ops.stores.contract import SessionRepository
    from session_ops.stores.redis import RedisSessionRepository

__all__ = [
    "postgresql",
    "postgresql_url",
    "sqlite",
    "sqlite_url",
]  # fixtures that pytest finds here

_numbers = itertools.count(1)


async def open_redis(
    make_repository: Callable[..., RedisSessionRepository], administrator: Connection, partitions: int
) -> RedisBackend:
    """An open generation in an empty Redis."""
    await administrator.call("FLUSHDB", change=True)
    made = RedisBackend(make_repository, administrator, f"1-contract{next(_numbers)}", partitions)
    await made.repository().open_generation()
    return made


@pytest_asyncio.fixture
async def redis(make_repository: Callable[..., RedisSessionRepository], administrator: Connection) -> RedisBackend:
    """Redis."""
    return await open_redis(make_repository, administrator, 1)


@pytest_asyncio.fixture
async def redis_256_partitions(
    make_repository: Callable[..., RedisSessionRepository], administrator: Connection
) -> RedisBackend:
    """Redis, partitioned as on a Cluster."""
    return await open_redis(make_repository, administrator, 256)


@pytest.fixture(params=["redis", "redis_256_partitions", "postgresql", "sqlite"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """An implementation on an empty store."""
    made: Backend = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def repository(backend: Backend) -> SessionRepository:
    """A repository with the default settings."""
    return backend.repository()


@pytest_asyncio.fixture
async def session(repository: SessionRepository) -> Session:
    """A session that just exists."""
    return await repository.create(NewSession(user_id="ann", agent_id="helper", data={"step": 1, "notes": ["a", "b"]}))
