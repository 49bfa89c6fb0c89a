"""Fixtures for every suite: a private Redis per run, connections to it, and repositories on it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from session_ops.stores.connection import Connection
from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.postgresql import postgresql_server
from tests.servers import (
    ADMINISTRATOR,
    ADMINISTRATOR_PASSWORD,
    DEFAULT_PROGRAM,
    SERVICE_PASSWORD,
    SERVICE_USER,
    RedisServer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["postgresql_server"]  # a fixture that pytest finds here

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def run_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RedisServer]]:
    """Starts one real server of each program for the run, when it is first asked for."""
    servers: dict[str, RedisServer] = {}

    def run(program: str) -> RedisServer:
        if program not in servers:
            servers[program] = RedisServer(tmp_path_factory.mktemp(program), program).start()
        return servers[program]

    yield run
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="session")
def redis_program() -> str:
    """The program behind `redis_server`; suites that hold for every program override it."""
    return DEFAULT_PROGRAM


@pytest.fixture(scope="session")
def redis_server(redis_program: str, run_redis: Callable[[str], RedisServer]) -> RedisServer:
    """One real Redis for the run, without the functions library."""
    return run_redis(redis_program)


def service_connection(server: RedisServer, **settings: Any) -> Connection:
    """A connection as the service makes it, but more patient: the machine may be busy with other tests."""
    settings = {"username": SERVICE_USER, "password": SERVICE_PASSWORD, "deadline": 5, **settings}
    return Connection("127.0.0.1", server.port, **settings)


def administrator_connection(server: RedisServer) -> Connection:
    """A connection that may do anything."""
    return Connection("127.0.0.1", server.port, username=ADMINISTRATOR, password=ADMINISTRATOR_PASSWORD, deadline=5)


@pytest_asyncio.fixture
async def administrator(redis_server: RedisServer) -> AsyncIterator[Connection]:
    """The administrator's connection, to an empty Redis that has the library."""
    connection = administrator_connection(redis_server)
    await connection.call("FLUSHALL", change=True)
    await load_library(connection)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def connect(redis_server: RedisServer) -> AsyncIterator[Callable[..., Connection]]:
    """Makes connections of the service's user, closed after the test."""
    made: list[Connection] = []

    def make(**settings: Any) -> Connection:
        made.append(service_connection(redis_server, **settings))
        return made[-1]

    yield make
    for connection in made:
        await connection.close()


@pytest_asyncio.fixture
async def make_repository(
    administrator: Connection, connect: Callable[..., Connection]
) -> Callable[..., RedisSessionRepository]:
    """Makes repositories of one open generation, each on its own connection unless one is given."""
    prefix = f"1-test{next(_numbers)}"

    def make(connection: Connection | None = None, **settings: Any) -> RedisSessionRepository:
        settings.setdefault("prefix", prefix)
        return RedisSessionRepository(connection or connect(), **settings)

    await make().open_generation()
    return make


@pytest_asyncio.fixture
async def repository(make_repository: Callable[..., RedisSessionRepository]) -> RedisSessionRepository:
    """A repository of an open generation."""
    return make_repository()
