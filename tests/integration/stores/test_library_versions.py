"""Two versions of the functions library in one Redis, each for its release; and a service that misses its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from session_ops.records import NewSession
from session_ops.stores.connection import Connection
from session_ops.stores.library import LIBRARY, LIBRARY_FILE, load_library
from session_ops.stores.redis import RedisSessionRepository
from session_ops.stores.replies import NO_LIBRARY
from tests.exercise import Outcomes, exercise
from tests.servers import SERVICE_PASSWORD, SERVICE_USER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from session_ops.stores.connection import Source
    from session_ops.stores.link import Exchange
    from tests.servers import RedisServer

# As long as the name of now, so that the lengths in a packed command stay right
NEXT = f"{LIBRARY[:-1]}{(int(LIBRARY[-1]) + 1) % 10}"


class NextRelease(Connection):
    """The connection of a release whose library is the next version: every function has that version's name."""

    def enlist(self, source: Source) -> None:
        super().enlist(_Renamed(source))


class _Renamed:
    def __init__(self, source: Source) -> None:
        self._source = source

    def emit(self) -> Iterator[Exchange]:
        for exchange in self._source.emit():
            exchange.commands = exchange.commands.replace(f"{LIBRARY}_".encode(), f"{NEXT}_".encode())
            yield exchange


async def load_next(administrator: Connection) -> None:
    code = LIBRARY_FILE.read_text(encoding="utf-8")
    assert code.count(LIBRARY) >= 2
    await administrator.call("FUNCTION", "LOAD", "REPLACE", code.replace(LIBRARY, NEXT), change=True)


@pytest_asyncio.fixture
async def next_release(redis_server: RedisServer, administrator: Connection) -> AsyncIterator[NextRelease]:
    made = NextRelease("127.0.0.1", redis_server.port, username=SERVICE_USER, password=SERVICE_PASSWORD)
    yield made
    await made.close()
    await administrator.call("FUNCTION", "FLUSH", change=True)


async def test_two_versions_serve_the_same_sessions_side_by_side(
    administrator: Connection, next_release: NextRelease, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    await load_next(administrator)
    old, new = make_repository(), make_repository(next_release)
    assert await new.open_generation() is False, "it is open already"
    session = await old.create(NewSession(user_id="ann", agent_id="helper", data={"by": "old"}))

    assert await new.get(session.id) == session
    changed = await new.update(session.id, changes={"by": "new"}, expected_revision=session.revision)
    assert await old.get(session.id) == changed
    both = [old, new]
    await asyncio.gather(*[both[n % 2].change(session.id, changes={f"a{n}": n}) for n in range(20)])
    read = await old.get(session.id)
    assert read is not None
    assert read.data == {"by": "new", **{f"a{n}": n for n in range(20)}}
    assert await new.list_sessions(user_id="ann") == await old.list_sessions(user_id="ann")
    assert await new.delete(session.id) is True
    assert await old.get(session.id) is None
    [ended] = await old.clean(10)
    await new.told([ended])
    assert await old.clean(10) == []
    assert await new.statistics() == await old.statistics()


async def test_every_operation_works_by_the_next_version_alone(
    administrator: Connection, next_release: NextRelease, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    old_seen, new_seen = Outcomes(), Outcomes()
    await exercise(make_repository(), old_seen)
    await administrator.call("FLUSHALL", change=True)
    await load_next(administrator)
    await administrator.call("FUNCTION", "DELETE", LIBRARY, change=True)
    repository = RedisSessionRepository(next_release, prefix="1-next")
    await repository.open_generation()

    await exercise(repository, new_seen)

    assert new_seen.noted == old_seen.noted


async def test_a_release_misses_its_own_version_and_no_other(
    administrator: Connection, next_release: NextRelease, make_repository: Callable[..., RedisSessionRepository]
) -> None:
    old, new = make_repository(), make_repository(next_release)

    async def libraries() -> list[Any]:
        return [(await repository.describe()).details["library"] for repository in (old, new)]

    assert await libraries() == [True, False]
    assert (await new.describe()).reason == NO_LIBRARY
    await load_next(administrator)
    assert await libraries() == [True, True]
    await administrator.call("FUNCTION", "DELETE", LIBRARY, change=True)
    assert await libraries() == [False, True]
    await load_library(administrator)
    assert await libraries() == [True, True]
