"""A real primary and replica: group commit, and a replica that is never taken for a primary."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from session_ops.errors import OutcomeUnknownError, StoreUnavailableError
from session_ops.records import NewSession
from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection, service_connection
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, RedisServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from session_ops.stores.connection import Connection


pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("primary")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(
        tmp_path_factory.mktemp("replica"), masteruser=ADMINISTRATOR, masterauth=ADMINISTRATOR_PASSWORD
    ).start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def administrator(primary: RedisServer, replica: RedisServer) -> AsyncIterator[Connection]:
    """The primary's administrator, once the replica follows it."""
    connection, follower = administrator_connection(primary), administrator_connection(replica)
    await connection.call("FLUSHALL", change=True)
    await load_library(connection)
    await follower.call("REPLICAOF", "127.0.0.1", primary.port, change=True)
    for _ in range(100):
        await connection.call("SET", "probe", 1, change=True)
        # While it synchronises it may be silent for longer than a change waits
        follows = b"master_link_status:up" in await follower.call("INFO", "replication")
        if await connection.call("WAIT", 1, 100) and follows:
            break
        await asyncio.sleep(0.05)
    await connection.call("DEL", "probe", change=True)
    yield connection
    await connection.close()
    await follower.close()


async def test_an_acknowledged_change_is_on_the_replica(
    primary: RedisServer, replica: RedisServer, administrator: Connection
) -> None:
    connection = service_connection(primary, wait_replicas=1)
    follower = administrator_connection(replica)
    repository = RedisSessionRepository(connection, prefix="1-wait")
    await repository.open_generation()

    made = await asyncio.gather(*[repository.create(NewSession(user_id="ann", data={"n": n})) for n in range(50)])
    keys = [f"session:1-wait:{{0}}:{session.id}" for session in made]
    assert await follower.call("EXISTS", *keys) == 50
    await asyncio.gather(*[repository.change(session.id, changes={"n": "new"}) for session in made])
    values = await asyncio.gather(*[follower.call("HGET", key, "n") for key in keys])
    assert set(values) == {b'"new"'}
    await asyncio.gather(*[repository.delete(session.id) for session in made])
    assert set(await asyncio.gather(*[follower.call("HLEN", key) for key in keys])) == {1}

    await connection.close()
    await follower.close()


async def test_a_frozen_replica_makes_changes_unknown_within_the_deadline_and_not_reads(
    primary: RedisServer, replica: RedisServer, administrator: Connection
) -> None:
    connection = service_connection(primary, wait_replicas=1, deadline=0.5)
    repository = RedisSessionRepository(connection, prefix="1-frozen")
    await repository.open_generation()
    session = await repository.create(NewSession(user_id="ann"))
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(0.6):
            with pytest.raises(OutcomeUnknownError, match="not replicated"):
                await repository.change(session.id, changes={"a": 1})
        read = await repository.get(session.id)
        assert read is not None
        assert read.data == {"a": 1}
    finally:
        os.kill(replica.pid, signal.SIGCONT)

    await repository.change(session.id, changes={"a": 2})
    await connection.close()


async def test_a_replica_serves_nothing_even_with_the_generation_key(
    primary: RedisServer, replica: RedisServer, administrator: Connection
) -> None:
    connection = service_connection(primary, wait_replicas=1)
    repository = RedisSessionRepository(connection, prefix="1-stale")
    await repository.open_generation()
    session = await repository.create(NewSession(user_id="ann"))
    follower = service_connection(replica)
    stale = RedisSessionRepository(follower, prefix="1-stale")

    for attempt in (
        stale.get(session.id),
        stale.change(session.id, changes={"a": 1}),
        stale.list_sessions(),
        stale.statistics(),
        stale.open_generation(),
    ):
        with pytest.raises(StoreUnavailableError, match="not the primary") as refused:
            await attempt
        assert type(refused.value) is StoreUnavailableError
    assert (await stale.describe()).reason == "not the primary"
    await connection.close()
    await follower.close()
