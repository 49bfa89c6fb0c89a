"""A real Redis with an open generation, and services over it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection, service_connection
from tests.integration.service_process import ServiceProcess
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def prepare(server: RedisServer) -> None:
    administrator = administrator_connection(server)
    await administrator.call("FLUSHALL", change=True)
    await load_library(administrator)
    await administrator.close()
    connection = service_connection(server)
    await RedisSessionRepository(connection, prefix="1-serve").open_generation()
    await connection.close()


@pytest.fixture
def ready_redis(redis_server: RedisServer) -> RedisServer:
    """The Redis of the run with an open generation."""
    asyncio.run(prepare(redis_server))
    return redis_server


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    made: list[ServiceProcess] = []

    def make(redis: RedisServer, **settings: str) -> ServiceProcess:
        made.append(ServiceProcess(tmp_path / str(len(made)), redis, **settings))
        return made[-1]

    yield make
    for service in made:
        service.close()
