"""A host that is killed in the middle of cleanup: another tells the agent manager of every end, with the same keys."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from session_ops.records import NewSession
from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_database import Database
from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection, service_connection
from tests.contract.legacy_backend import LegacyBackend, postgresql_url, sqlite_url
from tests.integration.dying_host import BATCH, POINTS, PREFIX, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from session_ops.stores.contract import SessionRepository
    from tests.servers import RedisServer

__all__ = ["postgresql_url", "sqlite_url"]  # fixtures that pytest finds here

SESSIONS = 7


async def end_sessions(repository: SessionRepository) -> set[str]:
    """Make sessions and end them: some deleted, some expired."""
    made = [await repository.create(NewSession(user_id="ann", ttl=1 if n % 2 else None)) for n in range(SESSIONS)]
    for session in made[::2]:
        await repository.delete(session.id)
    await asyncio.sleep(1.01)
    return {session.id for session in made}


async def in_redis(server: RedisServer) -> set[str]:
    administrator = administrator_connection(server)
    await administrator.call("FLUSHALL", change=True)
    await load_library(administrator)
    await administrator.close()
    connection = service_connection(server)
    repository = RedisSessionRepository(connection, prefix=PREFIX)
    await repository.open_generation()
    ids = await end_sessions(repository)
    await connection.close()
    return ids


async def in_sql(url: str) -> set[str]:
    backend = LegacyBackend(url)
    await backend.empty()
    await backend.close()
    database = Database(url, deadline=5)
    ids = await end_sessions(LegacySessionRepository(database))
    await database.close()
    return ids


@pytest.fixture(params=["redis", "postgresql", "sqlite"])
def store(request: pytest.FixtureRequest) -> tuple[str, Callable[[], set[str]]]:
    """Its address, and what puts ended sessions there."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return str(server.port), lambda: asyncio.run(in_redis(server))
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url, lambda: asyncio.run(in_sql(url))


@pytest.mark.parametrize("point", POINTS)
def test_every_end_is_heard_of_though_a_host_is_killed(
    store: tuple[str, Callable[[], set[str]]], point: str, tmp_path: Path
) -> None:
    address, end = store
    ids = end()
    heard = tmp_path / "heard"
    heard.touch()

    def clean(where: str) -> tuple[int, list[str]]:
        before = len(heard.read_text().splitlines())
        status = run(address, where, heard)
        return status, heard.read_text().splitlines()[before:]

    status, by_the_dead = clean(point)
    assert status == -signal.SIGKILL
    assert len(by_the_dead) == {"taken": 0, "telling": 1, "told": BATCH, "confirmed": BATCH}[point]
    status, by_the_next = clean("never")
    assert status == 0

    # One line per session: the key (id, end) and the cause are the same in every repetition
    lines = {*by_the_dead, *by_the_next}
    assert {line.split()[0] for line in lines} == ids
    assert len(lines) == SESSIONS
    again = set(by_the_dead) & set(by_the_next)
    assert again == (set() if point == "confirmed" else set(by_the_dead)), "what was not confirmed comes again"
    assert clean("never") == (0, []), "and then it is over"
