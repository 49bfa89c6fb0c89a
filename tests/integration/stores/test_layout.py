"""What lies in Redis: nothing leaks, everything expires, indexes heal, one round trip per operation, bad records."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import (
    CorruptSessionError,
    SessionNotFoundError,
    StoreNotEmptyError,
    StoreUnavailableError,
)
from session_ops.records import NewSession
from session_ops.stores.layout import unpack_record
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import service_connection
from tests.exercise import exercise
from tests.fake_redis import Proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.stores.connection import Connection
    from tests.servers import RedisServer

HOUR = 3_600_000
DAY = 24 * HOUR


async def keys_of(administrator: Connection, pattern: str) -> list[bytes]:
    return sorted(await administrator.call("KEYS", pattern))


async def test_every_operation_is_one_round_trip(
    redis_server: RedisServer, administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    async with Proxy(redis_server.port) as proxy:
        connection = service_connection(redis_server)
        connection._port = proxy.port
        repository = make_repository(connection)
        await repository.get("warm")
        trips: dict[str, int] = {}

        async def count(name: str, call: Awaitable[Any]) -> Any:
            before = proxy.turns
            try:
                return await call
            except Exception:  # noqa: BLE001  what it raises is not this test's concern
                return None
            finally:
                trips[name] = max(trips.get(name, 0), proxy.turns - before)

        await exercise(repository, count)
        await connection.close()

    assert len(trips) == 25
    assert {name: number for name, number in trips.items() if number != 1} == {}


async def test_a_page_of_a_user_with_ten_thousand_sessions_is_one_round_trip(
    redis_server: RedisServer, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    for _ in range(10):
        await asyncio.gather(*[repository.create(NewSession(user_id="ann", data={"a": 1})) for _ in range(1_000)])
    async with Proxy(redis_server.port) as proxy:
        connection = service_connection(redis_server)
        connection._port = proxy.port
        counted = make_repository(connection)
        page = await counted.list_sessions(user_id="ann", limit=100)
        before = proxy.turns

        page = await counted.list_sessions(user_id="ann", limit=100, cursor=page.cursor)

        assert len(page.sessions) == 100
        assert proxy.turns == before + 1
        assert await counted.delete_user("ann") == 10_000
        assert proxy.turns <= before + 110
        await connection.close()


async def test_every_key_but_the_generation_and_its_counters_expires(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository(ttl=60, cleanup_interval=3_600)
    for number in range(5):
        await repository.create(NewSession(user_id=f"user{number}", agent_id="helper", id=f"s{number}"))
    await repository.change("s0", changes={"a": 1})
    await repository.replace("s1", data={"a": 1})
    await repository.touch("s2")
    await repository.delete("s3")
    await repository.clean(10)

    forever = [key for key in await keys_of(administrator, "*") if await administrator.call("PEXPIRETIME", key) < 0]

    assert [key.split(b":")[0] + key[key.rindex(b"}") + 1 :] for key in forever] == [b"generation", b"sessions:stats"]


async def test_a_record_outlives_its_session_by_the_margin(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository(ttl=60, cleanup_interval=3_600)
    created = await repository.create(NewSession(user_id="ann"))
    [key] = await keys_of(administrator, "session:*")
    assert await administrator.call("PEXPIRETIME", key) == created.expires_at + 2 * HOUR

    for change in (
        repository.touch,
        lambda at: repository.replace(at, data={}),
        lambda at: repository.update(at, changes={}),
    ):
        changed = await change(created.id)
        assert await administrator.call("PEXPIRETIME", key) == changed.expires_at + 2 * HOUR
    await repository.delete(created.id)
    assert await administrator.call("PEXPIRETIME", key) == changed.expires_at + 2 * HOUR, "a tombstone stays as long"
    short = make_repository(ttl=60, cleanup_interval=60)
    created = await short.create(NewSession(user_id="ann", id="short"))
    [key] = await keys_of(administrator, "session:*:short")
    assert await administrator.call("PEXPIRETIME", key) == created.expires_at + 300_000


async def test_an_index_outlives_every_session_in_it(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    expiries = []
    for ttl in (60, 3_600, 30 * 86_400, 86_400):
        repository = make_repository(ttl=ttl)
        session = await repository.create(NewSession(user_id="ann", agent_id="helper"))
        expiries.append((await repository.touch(session.id)).expires_at)

    for index in ("created", "created:0", "due", "user:ann", "agent:helper"):
        [key] = await keys_of(administrator, f"sessions:*:{index}")
        lives_until = await administrator.call("PEXPIRETIME", key)
        assert lives_until > max(expiries) + DAY
        assert lives_until < max(expiries) + 33 * DAY


async def test_ended_sessions_leave_every_index(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository(ttl=1)
    await asyncio.gather(
        *[
            repository.create(NewSession(user_id=f"u{n % 7}", agent_id=f"a{n % 3}" if n % 2 else None))
            for n in range(60)
        ]
    )
    long = make_repository(ttl=60)
    kept = await long.create(NewSession(user_id="u0", agent_id="a0"))
    gone = await long.create(NewSession(user_id="u9", agent_id="a9"))
    await long.delete(gone.id)
    await asyncio.sleep(1.05)

    ended = []
    while batch := await repository.clean(25):
        ended.extend(batch)
        await repository.told(batch)

    assert len(ended) == 61
    left = {key.split(b"}:")[-1] for key in await keys_of(administrator, "sessions:*")}
    assert left == {b"created", b"created:0", b"user:u0", b"agent:a0", b"expiry", b"stats"}
    assert len(await keys_of(administrator, "session:*")) == 2, "the live session and the tombstone"
    assert await long.get(kept.id) == kept


async def test_an_entry_without_its_session_leaves_the_index_after_a_list(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    kept = await repository.create(NewSession(user_id="ann", agent_id="helper"))
    lost = await repository.create(NewSession(user_id="ann", agent_id="helper"))
    [key] = await keys_of(administrator, f"session:*:{lost.id}")
    await administrator.call("DEL", key, change=True)

    for filters in ({}, {"user_id": "ann"}, {"agent_id": "helper"}):
        assert (await repository.list_sessions(**filters)).sessions == [kept]  # type: ignore[arg-type]
    await repository.count_active()

    for index in ("created:0", "user:ann", "agent:helper"):
        [key] = await keys_of(administrator, f"sessions:*:{index}")
        assert await administrator.call("ZCARD", key) == 1


async def test_an_end_is_told_even_when_the_record_is_gone(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository(ttl=1)
    created = await repository.create(NewSession(user_id="ann"))
    [key] = await keys_of(administrator, "session:*")
    await administrator.call("DEL", key, change=True)
    await asyncio.sleep(1.05)

    [ended] = await repository.clean(10)

    assert (ended.id, ended.cause, ended.ended_at) == (created.id, "expired", created.expires_at)


@pytest.mark.parametrize("lost", [("created", "created:0", "user:ann", "agent:helper"), ("created",), ("created:0",)])
async def test_a_lost_index_entry_comes_back_with_the_daily_slide(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository], lost: tuple[str, ...]
) -> None:
    created = await make_repository(ttl=60).create(NewSession(user_id="ann", agent_id="helper", ttl=60))
    for index in lost:
        [key] = await keys_of(administrator, f"sessions:*:{index}")
        await administrator.call("DEL", key, change=True)
    [key] = await keys_of(administrator, "session:*")
    head = bytearray(await administrator.call("HGET", key, ""))
    head[48:52] = (3 * 86_400).to_bytes(4, "little")
    await administrator.call("HSET", key, "", bytes(head), change=True)

    await make_repository().touch(created.id)

    for filters in ({}, {"user_id": "ann"}, {"agent_id": "helper"}):
        assert len((await make_repository().list_sessions(**filters)).sessions) == 1  # type: ignore[arg-type]


async def test_an_update_within_the_step_moves_no_expiry(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    created = await repository.create(NewSession(user_id="ann"))
    await asyncio.sleep(0.005)
    await repository.touch(created.id)
    await administrator.call("CONFIG", "RESETSTAT", change=True)

    await repository.change(created.id, changes={"a": 1})

    calls = (await administrator.call("INFO", "commandstats")).decode()
    used = {line.split(":")[0].removeprefix("cmdstat_") for line in calls.splitlines()[1:]}
    assert used - {"config|resetstat", "info"} == {"fcall", "get", "time", "hmget", "hset"}


async def test_something_else_under_a_sessions_name_spoils_only_itself(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    good = await repository.create(NewSession(user_id="ann", id="good"))
    [key] = await keys_of(administrator, "session:*")
    prefix = key.decode().removesuffix("good")
    await administrator.call("SET", prefix + "text", "x", change=True)
    await administrator.call("HSET", prefix + "short", "", "x", change=True)
    await administrator.call("HSET", prefix + "hash", "field", "x", change=True)
    for name in ("text", "short", "hash"):
        for call in (
            repository.get(name),
            repository.change(name, changes={"a": 1}),
            repository.update(name, changes={"a": 1}),
            repository.replace(name, data={}),
            repository.touch(name),
            repository.delete(name),
        ):
            outcome, fine = await asyncio.gather(call, repository.get("good"), return_exceptions=True)
            assert isinstance(outcome, CorruptSessionError), (name, outcome)
            assert fine == good
    outcomes = await asyncio.gather(
        repository.change("text", changes={"a": 1}),
        repository.change("good", changes={"a": 1}),
        repository.change("unknown", changes={"a": 1}),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], CorruptSessionError)
    assert not isinstance(outcomes[1], BaseException)
    assert isinstance(outcomes[2], SessionNotFoundError)


async def test_a_value_that_is_no_json_spoils_only_the_data_it_is_in(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    good = await repository.create(NewSession(user_id="ann", id="good", data={"a": 1}))
    await repository.create(NewSession(user_id="bob", id="bad", data={"a": 1, "b": 2}))
    [key] = await keys_of(administrator, "session:*bad")
    await administrator.call("HSET", key, "a", "{", change=True)

    for read in (repository.get("bad"), repository.touch("bad"), repository.update("bad", changes={"b": 3})):
        session, fine = await asyncio.gather(read, repository.get("good"))
        assert session is not None
        assert session.user_id == "bob"
        with pytest.raises(CorruptSessionError):
            session.data  # noqa: B018
        assert fine == good
    with pytest.raises(CorruptSessionError):
        await repository.list_sessions()
    with pytest.raises(CorruptSessionError):
        unpack_record("bad", await administrator.call("HGETALL", key))
    assert (await repository.list_sessions(user_id="ann")).sessions == [good]

    assert (await repository.update("bad", changes={"a": 2})).data == {"a": 2, "b": 3}


async def test_an_attribute_that_is_missing_is_a_broken_record(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    await repository.create(NewSession(user_id="bob", id="bad", data={"a": 1, "b": 2}))
    [key] = await keys_of(administrator, "session:*")
    for command in (("HDEL", key, "a"), ("HSET", key, "a", "1", "c", "1")):
        await administrator.call(*command, change=True)
        with pytest.raises(CorruptSessionError):
            await repository.get("bad")


async def test_a_generation_is_opened_in_an_empty_redis_only(
    administrator: Connection, connect: Callable[..., Connection]
) -> None:
    for partitions in (1, 256):
        await administrator.call("FLUSHALL", change=True)
        repository = RedisSessionRepository(connect(), prefix="1-open", partitions=partitions)
        other = RedisSessionRepository(connect(), prefix="1-other", partitions=partitions)
        assert (await repository.describe()).reason == "generation lost"
        assert (await repository.describe()).details["library"] is True

        assert await repository.open_generation() is True
        assert await repository.open_generation() is False
        with pytest.raises(StoreNotEmptyError):
            await other.open_generation()

        state = await repository.describe()
        assert (state.state, state.details["mode"], state.details["keys"]) == ("up", "final", partitions)
        assert (await other.describe()).state == "down"


async def test_a_generation_in_another_mode_is_left_alone(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    session = await repository.create(NewSession(user_id="ann"))
    [key] = await keys_of(administrator, "generation:*")
    await administrator.call("SET", key, "mirror", change=True)

    for call in (repository.get(session.id), repository.change(session.id, changes={}), repository.open_generation()):
        with pytest.raises(StoreUnavailableError, match="wrong mode"):
            await call


async def test_without_a_prefix_nothing_is_served_and_the_state_says_why(
    connect: Callable[..., Connection], administrator: Connection
) -> None:
    repository = RedisSessionRepository(connect(), prefix=None)

    for call in (repository.get("x"), repository.list_sessions(), repository.clean(1), repository.open_generation()):
        with pytest.raises(StoreUnavailableError, match="no generation prefix"):
            await call
    state = await repository.describe()
    assert (state.state, state.reason, state.details["library"]) == ("down", "no generation prefix", True)


async def test_a_full_redis_still_reads_deletes_and_cleans(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository()
    made = [await repository.create(NewSession(user_id="ann", data={"a": 1})) for _ in range(3)]
    await administrator.call("CONFIG", "SET", "maxmemory", "1mb", change=True)
    try:
        for refused in (
            repository.create(NewSession(user_id="ann")),
            repository.change(made[0].id, changes={"a": 2}),
            repository.update(made[0].id, changes={"a": 2}),
        ):
            with pytest.raises(StoreUnavailableError, match="out of memory") as refusal:
                await refused
            assert type(refusal.value) is StoreUnavailableError
        assert await repository.get(made[0].id) == made[0]
        assert len((await repository.list_sessions()).sessions) == 3
        assert await repository.delete(made[0].id) is True
        assert await repository.delete_user("ann") == 2
        assert await repository.lead("cleanup", "me", 1) is True
        await repository.told(await repository.clean(10))
    finally:
        await administrator.call("CONFIG", "SET", "maxmemory", "0", change=True)


async def test_one_holder_leads_at_a_time(make_repository: Callable[..., RedisSessionRepository]) -> None:
    one, two = make_repository(), make_repository()

    assert await one.lead("cleanup", "one", 0.1) is True
    assert await two.lead("cleanup", "two", 0.1) is False
    assert await two.lead("other", "two", 0.1) is True
    assert await one.lead("cleanup", "one", 0.1) is True
    await asyncio.sleep(0.12)
    assert await two.lead("cleanup", "two", 0.1) is True


async def test_a_touch_after_a_read_is_sent_once_and_only_where_it_is_due(
    make_repository: Callable[..., RedisSessionRepository],
) -> None:
    repository = make_repository(ttl=1_000)
    created = await repository.create(NewSession(user_id="ann"))
    read = await repository.get(created.id)
    assert read is not None
    await asyncio.sleep(0.005)

    sent = [repository.touch_later(read) for _ in range(5)]
    after = await repository.get(created.id)

    assert sent == [True, False, False, False, False]
    assert after is not None
    after = await repository.get(created.id)
    assert after is not None
    assert after.expires_at == created.expires_at + 50_000
    assert after.revision == created.revision
    assert repository.touch_later(after) is False
    assert repository.touch_failures == 0


async def test_a_touch_that_fails_is_counted_and_disturbs_nobody(
    administrator: Connection, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    repository = make_repository(ttl=1_000)
    created = await repository.create(NewSession(user_id="ann"))
    await asyncio.sleep(0.005)
    await administrator.call("FLUSHALL", change=True)

    assert repository.touch_later(created) is True
    with pytest.raises(StoreUnavailableError):
        await repository.get(created.id)

    assert repository.touch_failures == 1
