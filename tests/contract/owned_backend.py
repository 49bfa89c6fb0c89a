"""The owned store under the contract suite: two hosts' worth of repositories whose flags flip at every call."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest_asyncio

from session_ops.bump import bump
from session_ops.owned_access import OwnedStore
from session_ops.records import Changed, Page, Session
from session_ops.settings import Flag
from session_ops.stores.legacy_database import Database
from tests.contract.backends import RedisBackend
from tests.contract.legacy_backend import LegacyBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from session_ops.owned import OwnedSessionRepository
    from session_ops.stores.connection import Connection
    from session_ops.stores.contract import SessionRepository
    from session_ops.stores.redis import RedisSessionRepository

LEASE = 1.0


class Flipping:
    """A flag that says something else every time it is asked."""

    def __init__(self) -> None:
        self._next = itertools.cycle((True, False, True, True, False, False))

    def __call__(self) -> Flag:
        return Flag(next(self._next), 100)


class Unmoved:
    """The repository as a caller sees it who must not notice moves: `version` counts changes alone.

    The one deviation of this implementation: moves raise `version`, too, and after a bump its numbers come again
    (docs/ownership.md, section 2). Expiry and revision tell the versions of one session apart.
    """

    def __init__(self, inner: OwnedSessionRepository, seen: dict[str, list[tuple[str, int]]]) -> None:
        self._inner = inner
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name == "touch_later" or not callable(attribute):
            return attribute

        async def call(*arguments: Any, **named: Any) -> Any:
            return self._renumbered(await attribute(*arguments, **named))

        return call

    def _renumbered(self, answer: Any) -> Any:
        if isinstance(answer, Session | Changed):
            states = self._seen.setdefault(answer.id, [])
            state = (answer.revision, answer.expires_at)
            if state not in states:
                states.append(state)
            return msgspec.structs.replace(answer, version=states.index(state) + 1)
        if isinstance(answer, Page):
            return msgspec.structs.replace(answer, sessions=list(map(self._renumbered, answer.sessions)))
        return list(map(self._renumbered, answer)) if isinstance(answer, list) else answer


class OwnedBackend:
    """`OwnedSessionRepository` on a real Redis and a real database, in mode mirror."""

    moves = True

    def __init__(
        self,
        url: str,
        connect: Callable[..., Connection],
        administrator: Connection,
        make_redis: Callable[..., RedisSessionRepository],
    ) -> None:
        self._url = url
        self._connect = connect
        self._administrator = administrator
        self._make_redis = make_redis
        self._legacy = LegacyBackend(url)
        self._stores: list[OwnedStore] = []
        self._seen: dict[str, list[tuple[str, int]]] = {}

    def repository(self, **settings: Any) -> SessionRepository:
        """A host of its own."""
        settings = {"lease": LEASE, "moves_per_second": 1_000, **settings}
        store = OwnedStore(self._connect(), Database(self._url, deadline=10), Flipping(), **settings)
        self._stores.append(store)
        return cast("SessionRepository", Unmoved(store.repository, self._seen))

    async def pass_time(self, session_id: str, seconds: float) -> None:
        """Make the session older in both stores."""
        await self._legacy.pass_time(session_id, seconds)
        control = await self._stores[0].control_store.read()
        assert control.prefix is not None
        redis = RedisBackend(self._make_redis, self._administrator, control.prefix, 1)
        if await self._administrator.call("EXISTS", redis.key(session_id)):
            await redis.pass_time(session_id, seconds)

    async def open(self) -> None:
        """Empty tables, and a first generation."""
        await self._legacy.empty()
        store = OwnedStore(self._connect(), Database(self._url, deadline=10), Flipping(), lease=LEASE)
        self._stores.append(store)
        async with store.database.engine.connect() as connection:
            await connection.exec_driver_sql(
                "UPDATE session_control SET generation = 0, prefix = NULL, pin = NULL, closing = NULL, redis = 'off'"
            )
        seen = await store.control_store.read()
        await bump(store.control_store, seen, target=self._connect(), address="", partitions=1, lease=LEASE, lost=True)

    async def close(self) -> None:
        """Close every host."""
        for store in self._stores:
            await store.close()
        await self._legacy.close()


async def _opened(url: str, *parts: Any) -> AsyncIterator[OwnedBackend]:
    store = OwnedStore(parts[0](), Database(url, deadline=10), Flipping())
    await store.database.create(store.control_schema.create)
    await store.close()
    backend = OwnedBackend(url, *parts)
    await backend.open()
    yield backend
    await backend.close()


@pytest_asyncio.fixture
async def owned_postgresql(
    postgresql_url: str,
    connect: Callable[..., Connection],
    administrator: Connection,
    make_repository: Callable[..., RedisSessionRepository],
) -> AsyncIterator[OwnedBackend]:
    """The owned store on PostgreSQL."""
    async for backend in _opened(postgresql_url, connect, administrator, make_repository):
        yield backend


@pytest_asyncio.fixture
async def owned_sqlite(
    sqlite_url: str,
    connect: Callable[..., Connection],
    administrator: Connection,
    make_repository: Callable[..., RedisSessionRepository],
) -> AsyncIterator[OwnedBackend]:
    """The owned store on SQLite."""
    async for backend in _opened(sqlite_url, connect, administrator, make_repository):
        yield backend
