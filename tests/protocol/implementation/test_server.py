"""The guards that know the server: the pin, the role, and the generation key that is lost with the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from session_ops.errors import StoreUnavailableError
from session_ops.generation import RedisGeneration
from tests.owned import as_administrator, connection_to, load_functions
from tests.protocol.implementation.rig import OFF, ON, Fleet
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, RedisServer

if TYPE_CHECKING:
    from pathlib import Path


async def lose_everything(fleet: Fleet) -> None:
    """FLUSHALL: the pin stays, the generation key goes."""
    await as_administrator(fleet.redis, "FLUSHALL")
    await load_functions(fleet.redis)


async def refuses_reads_and_changes(redis: RedisGeneration, session_id: str) -> None:
    """Neither is served."""
    for call in (redis.read(session_id), redis.merge(session_id, {"step": 9}, (), None), redis.kill(session_id, None)):
        with pytest.raises(StoreUnavailableError):
            await call


async def test_lost_data_are_noticed_by_reads_and_changes(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await lose_everything(fleet)
    await refuses_reads_and_changes(fleet.generation, session_id)


async def test_lost_data_are_noticed_by_a_put(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.written(session_id, 2)
    await lose_everything(fleet)
    with pytest.raises(StoreUnavailableError):
        await fleet.generation.put(await fleet.row(session_id))


async def test_lost_data_are_noticed_by_a_mark(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await lose_everything(fleet)
    with pytest.raises(StoreUnavailableError):
        await fleet.generation.mark(await fleet.row(session_id))


async def test_a_restarted_server_is_not_the_pinned_one(mortal: Fleet) -> None:
    session_id = await mortal.born(ON)
    mortal.redis.stop()
    mortal.redis.start()
    redis = mortal.by_hand.store.redis_at(connection_to(mortal.address), await mortal.steps.control())
    await refuses_reads_and_changes(redis, session_id)
    with pytest.raises(StoreUnavailableError):
        await redis.put(await mortal.row(session_id))


async def test_the_pin_is_checked_unless_the_callers_own_control_row_is_final(mortal: Fleet) -> None:
    session_id = await mortal.born(ON)
    control = await mortal.steps.control()
    await mortal.mode(key="final")
    mortal.redis.stop()
    mortal.redis.start()
    redis = mortal.by_hand.store.redis_at(connection_to(mortal.address), control)
    await refuses_reads_and_changes(redis, session_id)


async def test_a_replica_is_not_the_server_though_it_has_its_replication_id(mortal: Fleet, tmp_path: Path) -> None:
    replica = RedisServer(tmp_path / "replica", masteruser=ADMINISTRATOR, masterauth=ADMINISTRATOR_PASSWORD).start()
    try:
        await as_administrator(replica, "REPLICAOF", "127.0.0.1", mortal.redis.port)
        for _ in range(200):
            await as_administrator(mortal.redis, "SET", "probe", 1)
            if await as_administrator(mortal.redis, "WAIT", 1, 50):
                break
        # The first replica has changed the pin: adopt the server again
        await mortal.bump()
        session_id = await mortal.born(ON)
        await as_administrator(mortal.redis, "WAIT", 1, 1000)
        connection = connection_to(f"127.0.0.1:{replica.port}")
        redis = mortal.by_hand.store.redis_at(connection, await mortal.steps.control())
        with pytest.raises(StoreUnavailableError):
            await redis.read(session_id)
        await connection.close()
    finally:
        replica.kill()


async def test_a_session_of_the_legacy_store_is_served_where_redis_has_lost_its_data(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    host = await fleet.looked(ON)
    await lose_everything(fleet)
    assert await host.repository.get(session_id)
