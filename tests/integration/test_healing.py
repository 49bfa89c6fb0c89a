"""Who bumps, when, and who does not: real Redis and PostgreSQL, several hosts, short leases."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from session_ops.bump import BumpRefusedError, abandoned_after, bump
from session_ops.errors import StoreUnavailableError
from session_ops.records import NewSession
from tests.owned import Host, as_administrator, empty_tables, first_bump, load_functions, make_tables
from tests.servers import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.postgresql import PostgreSQLServer

LEASE = 0.9
FALLBACK_AFTER = 2.0
RETURN_AFTER = 1.5
PATIENCE = 40.0
"""What is waited for in vain: `make bench-owned` measures how long these take, a test may run on a busy machine."""


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that a test may kill."""
    server = RedisServer(tmp_path / "redis").start()
    await load_functions(server)
    yield server
    server.stop()


@pytest_asyncio.fixture
async def make_host(redis: RedisServer, postgresql_server: PostgreSQLServer) -> AsyncIterator[Callable[..., Host]]:
    """Makes hosts, in an empty fleet whose first generation is open."""
    made: list[Host] = []
    address = f"127.0.0.1:{redis.port}"

    def make(at: str = address) -> Host:
        settings = {"lease": LEASE, "fallback_after": FALLBACK_AFTER, "return_after": RETURN_AFTER}
        made.append(Host(len(made), at, postgresql_server.url, redis_deadline=0.3, **settings))
        return made[-1]

    first = make()
    await make_tables(first.store)
    await empty_tables(first.store)
    await first_bump(first, address)
    made.clear()
    yield make
    for host in [*made, first]:
        await host.close()


async def until(host: Host, generation: int, seconds: float = PATIENCE) -> float:
    """Wait until the fleet is in a generation; how long that took."""
    started = time.monotonic()
    while (await host.store.control_store.read()).generation < generation:
        assert time.monotonic() - started < seconds, "no bump in time"
        await asyncio.sleep(0.05)
    return time.monotonic() - started


async def answer(host: Host, session_id: str, seconds: float = PATIENCE) -> object:
    """What a reader is told once the service answers again."""
    limit = time.monotonic() + seconds
    while True:
        try:
            session = await host.repository.get(session_id)
        except StoreUnavailableError:
            assert time.monotonic() < limit, "no answer in time"
            await asyncio.sleep(0.05)
        else:
            return session and session.data


async def test_lost_data_are_noticed_and_every_session_is_served_from_the_legacy_store(
    redis: RedisServer, make_host: Callable[..., Host]
) -> None:
    one, two = [await make_host().join() for _ in range(2)]
    session = await one.repository.create(NewSession(user_id="ann", data={"step": 1}))
    await two.repository.update(session.id, changes={"step": 2})
    await as_administrator(redis, "FLUSHALL")
    assert await answer(one, session.id) == {"step": 2}
    assert await answer(two, session.id) == {"step": 2}
    row = await one.store.control_store.read()
    assert (row.generation, row.redis, len(row.bumped_at)) == (2, "on", 1)
    assert one.bumps + two.bumps == ["lost"]


async def test_a_restarted_redis_is_another_life_and_waits_for_the_leases(
    redis: RedisServer, make_host: Callable[..., Host]
) -> None:
    one, two = [await make_host().join() for _ in range(2)]
    session = await one.repository.create(NewSession(user_id="ann", data={"step": 1}))
    redis.kill()
    redis.start()
    waited = await until(one, 2)
    assert waited >= LEASE + 1
    assert await answer(two, session.id) == {"step": 1}
    assert one.bumps + two.bumps == ["restarted"]


async def test_a_redis_that_is_gone_is_given_up_and_taken_again_when_it_is_back(
    redis: RedisServer, make_host: Callable[..., Host]
) -> None:
    one, two = [await make_host().join() for _ in range(2)]
    session = await one.repository.create(NewSession(user_id="ann", data={"step": 1}))
    redis.kill()
    waited = await until(one, 2)
    assert waited >= FALLBACK_AFTER
    assert (await one.store.control_store.read()).redis == "away"
    assert await answer(two, session.id) == {"step": 1}
    await two.repository.update(session.id, changes={"step": 2})
    redis.start()
    await load_functions(redis)
    await until(one, 3)
    assert (await one.store.control_store.read()).redis == "on"
    assert await answer(one, session.id) == {"step": 2}
    assert sorted(one.bumps + two.bumps) == ["away", "returned"]


async def test_one_host_with_a_wrong_address_moves_nobody_and_is_not_ready(
    redis: RedisServer, make_host: Callable[..., Host], tmp_path: Path
) -> None:
    other = RedisServer(tmp_path / "other").start()
    try:
        await load_functions(other)
        wrong = await make_host(f"127.0.0.1:{other.port}").join()
        nowhere = await make_host(f"127.0.0.1:{free_port()}").join()
        right = await make_host().join()
        session = await right.repository.create(NewSession(user_id="ann", data={"step": 1}))
        limit = time.monotonic() + FALLBACK_AFTER + 3 * LEASE
        while time.monotonic() < limit:
            assert (await right.repository.get(session.id)) is not None
            await asyncio.sleep(0.05)
        assert (await right.store.control_store.read()).generation == 1
        assert (wrong.member.cut_off, nowhere.member.cut_off, right.member.cut_off) == (True, True, False)
        for host in (wrong, nowhere):
            with pytest.raises(StoreUnavailableError, match="redis"):
                await host.repository.get(session.id)
        made = await wrong.repository.create(NewSession(user_id="ann", data={"step": 9}))
        assert await answer(right, made.id) == {"step": 9}
    finally:
        other.stop()


async def test_after_three_bumps_within_ten_minutes_a_person_decides(
    redis: RedisServer, make_host: Callable[..., Host]
) -> None:
    host = await make_host().join()
    session = await host.repository.create(NewSession(user_id="ann", data={"step": 1}))
    for generation in (2, 3, 4):
        await as_administrator(redis, "FLUSHALL")
        await until(host, generation)
    await answer(host, session.id)
    await as_administrator(redis, "FLUSHALL")
    await asyncio.sleep(3 * LEASE)
    assert (await host.store.control_store.read()).generation == 4
    assert host.member.halted
    store = host.store.control_store
    await bump(store, await store.read(), target=host.connection, address="", partitions=1, lease=LEASE)
    assert (await store.read()).generation == 5
    assert await answer(host, session.id) == {"step": 1}


async def test_a_bump_that_was_begun_and_abandoned_is_taken_over(
    redis: RedisServer, make_host: Callable[..., Host]
) -> None:
    host = await make_host().join()
    store = host.store.control_store
    assert await store.close(1, "the token of a host that died")
    await as_administrator(redis, "FLUSHALL")
    waited = await until(host, 2)
    assert waited >= abandoned_after(LEASE) - 0.2


async def test_a_bump_at_work_is_left_alone_however_short_the_lease(make_host: Callable[..., Host]) -> None:
    host = make_host()
    store = host.store.control_store
    seen = await store.read()
    looks = []

    async def look(step: str) -> None:
        if step == "open":
            looks.append(await store.close(seen.generation, "another host's", stale=abandoned_after(0.1)))

    await bump(store, seen, target=host.connection, address="", partitions=1, lease=0.1, automatic=True, step=look)
    assert looks == [False]
    assert (await store.read()).generation == 2


async def test_a_cancelled_bump_opens_nothing(redis: RedisServer, make_host: Callable[..., Host]) -> None:
    host = make_host()
    store = host.store.control_store
    seen = await store.read()

    async def cancel_before_the_end(step: str) -> None:
        if step == "open":
            assert await store.cancel(seen.generation)

    with pytest.raises(BumpRefusedError):
        await bump(store, seen, target=host.connection, address="", partitions=1, lease=0.1, step=cancel_before_the_end)
    after = await store.read()
    assert (after.generation, after.prefix, after.closing) == (1, seen.prefix, None)


async def test_of_two_bumps_at_once_one_opens_a_generation(redis: RedisServer, make_host: Callable[..., Host]) -> None:
    one, two = make_host(), make_host()
    seen = await one.store.control_store.read()
    done = await asyncio.gather(
        *[
            bump(host.store.control_store, seen, target=host.connection, address="", partitions=1, lease=0.2)
            for host in (one, two)
        ],
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in done) == ["BumpRefusedError", "str"]
    assert (await one.store.control_store.read()).generation == 2
