"""The link to a real Redis is cut after every byte in turn: no request hangs, none is lost or answered twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import OutcomeUnknownError, SessionNotFoundError, StoreUnavailableError
from session_ops.records import NewSession, Session
from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from session_ops.stores.replies import NO_LIBRARY, pack
from tests.conftest import administrator_connection, service_connection
from tests.fake_redis import Proxy
from tests.servers import SERVICE_PASSWORD, SERVICE_USER, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable


async def settle(*calls: Any) -> list[Any]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
async def test_an_update_that_is_cut_anywhere_happens_once_or_not_at_all(
    redis_server: RedisServer, make_repository: Callable[..., RedisSessionRepository], direction: str
) -> None:
    plain = make_repository()
    session = await plain.create(NewSession(user_id="ann", data={"a": 0, "untouched": "x" * 40}))
    async with Proxy(redis_server.port) as proxy:
        # Nothing here waits for the deadline, so that a machine that is busy may take its time
        cut_off = service_connection(redis_server, deadline=10)
        cut_off._port = proxy.port
        repository = make_repository(cut_off)
        await repository.get(session.id)
        before = getattr(proxy, direction)
        await settle(repository.update(session.id, changes={"a": 1}), repository.get(session.id))
        length = getattr(proxy, direction) - before

        seen: set[str] = set()
        # Every byte of the update's own exchange would be some hundred cuts in each direction: a prime step visits all
        # parts of it
        for budget in range(1, length, 7):
            setattr(proxy, f"{direction}_budget", None)
            assert await repository.get(session.id) is not None
            was = await plain.get(session.id)
            assert was is not None
            setattr(proxy, f"{direction}_budget", budget)

            updated, read = await settle(
                repository.update(session.id, changes={"a": budget + 1}), repository.get(session.id)
            )

            now = await plain.get(session.id)
            assert now is not None
            seen.add(type(updated).__name__)
            assert now.version - was.version in {0, 1}
            assert now.data == {"a": budget + 1 if now.version > was.version else was.data["a"], "untouched": "x" * 40}
            if isinstance(updated, Session):
                assert now.version == was.version + 1
                assert updated == now
            else:
                assert type(updated) is OutcomeUnknownError
            assert isinstance(read, Session) or type(read) is StoreUnavailableError
        assert seen >= {"OutcomeUnknownError"}
        await cut_off.close()


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
async def test_a_greeting_that_is_cut_anywhere_loses_no_call_and_repeats_none(
    redis_server: RedisServer, make_repository: Callable[..., RedisSessionRepository], direction: str
) -> None:
    plain = make_repository()
    session = await plain.create(NewSession(user_id="ann"))
    async with Proxy(redis_server.port) as proxy:

        async def call_over_a_new_link(number: int) -> None:
            connection = service_connection(redis_server, deadline=2)
            connection._port = proxy.port
            repository = make_repository(connection)
            # Nothing of it was sent before the greeting was answered, so that it waits and is sent once
            await repository.change(session.id, changes={f"n{number}": number})
            await connection.close()

        await call_over_a_new_link(0)
        greeting = pack(("AUTH", SERVICE_USER, SERVICE_PASSWORD)) + pack(("CLIENT", "SETNAME", "session-ops"))
        cuts = list(range(1, len(greeting), 7)) if direction == "upstream" else list(range(1, len(b"+OK\r\n" * 2)))
        for number, budget in enumerate(cuts, 1):
            setattr(proxy, f"{direction}_budget", budget)
            before = proxy.connections
            await call_over_a_new_link(number)
            assert proxy.connections >= before + 2, "the greeting was cut"

    read = await plain.get(session.id)
    assert read is not None
    assert read.data == {f"n{number}": number for number in range(len(cuts) + 1)}
    assert read.version == session.version + len(cuts) + 1


async def test_many_callers_survive_cuts_at_random_places(
    redis_server: RedisServer, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    plain = make_repository()
    session = await plain.create(NewSession(user_id="ann"))
    async with Proxy(redis_server.port) as proxy:
        connection = service_connection(redis_server, deadline=0.5)
        connection._port = proxy.port
        repository = make_repository(connection)
        acknowledged: set[str] = set()
        unknown: set[str] = set()

        async def write(name: str) -> None:
            try:
                await repository.change(session.id, changes={name: 1})
            except OutcomeUnknownError:
                unknown.add(name)
            except StoreUnavailableError:
                pass
            else:
                acknowledged.add(name)

        async with asyncio.timeout(20):
            for number in range(25):
                if number % 2:
                    proxy.downstream_budget = 40 + 97 * number
                else:
                    proxy.upstream_budget = 60 + 131 * number
                await asyncio.gather(*[write(f"a{number}_{caller}") for caller in range(15)])
                await asyncio.sleep(0.005)
        proxy.downstream_budget = proxy.upstream_budget = None

        read = await plain.get(session.id)
        assert read is not None
        assert acknowledged <= read.data.keys() <= acknowledged | unknown
        assert acknowledged
        assert unknown
        assert read.version == 1 + len(read.data), "every change was applied once"
        assert await repository.get(session.id) == read
        assert connection.in_flight == 0
        await connection.close()


async def test_a_killed_redis_comes_back_without_a_wrong_answer(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    server = RedisServer(tmp_path_factory.mktemp("killed"), appendfsync="always").start()
    administrator = administrator_connection(server)
    await load_library(administrator)
    connection = service_connection(server, deadline=0.3)
    repository = RedisSessionRepository(connection, prefix="1-killed")
    await repository.open_generation()
    session = await repository.create(NewSession(user_id="ann"))
    done = 0
    stop = asyncio.Event()

    async def write() -> None:
        nonlocal done
        while not stop.is_set():
            try:
                # A hundred attributes in turn, each with the number of its last write: a session holds only so many.
                await repository.change(session.id, changes={f"n{done % 100}": done})
                done += 1
            except StoreUnavailableError:
                await asyncio.sleep(0.01)

    writer = asyncio.create_task(write())
    try:
        await asyncio.sleep(0.2)
        server.kill()
        await asyncio.sleep(0.1)
        with pytest.raises(StoreUnavailableError):
            await repository.get(session.id)
        assert (await repository.describe()).reason in {"unreachable", "connection lost", "connection closed"}
        before = done
        server.start()
        assert (await _until_up(repository))["library"] is True
        await asyncio.sleep(0.3)
        stop.set()
        await writer
        read = await repository.get(session.id)
        assert read is not None
        assert done > before > 0
        lost = {number for number in range(max(0, done - 100), done) if read.data[f"n{number % 100}"] < number}
        assert not lost
        await administrator.call("FLUSHALL", change=True)
        with pytest.raises(StoreUnavailableError, match="generation lost"):
            await repository.get(session.id)
        with pytest.raises(StoreUnavailableError, match="generation lost"):
            await repository.change(session.id, changes={"a": 1})
        await administrator.call("FUNCTION", "FLUSH", change=True)
        with pytest.raises(StoreUnavailableError, match=NO_LIBRARY):
            await repository.get(session.id)
        with pytest.raises(StoreUnavailableError, match=NO_LIBRARY):
            await repository.change(session.id, changes={"a": 1})
    except SessionNotFoundError:
        pytest.fail("a session that was acknowledged is not gone")
    finally:
        stop.set()
        writer.cancel()
        await connection.close()
        await administrator.close()
        server.stop()


async def _until_up(repository: RedisSessionRepository) -> dict[str, Any]:
    for _ in range(500):
        state = await repository.describe()
        if state.state == "up":
            return state.details
        await asyncio.sleep(0.02)
    raise TimeoutError
