"""A fleet whose steps a test takes by hand, and operations that stand still before a step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from session_ops.bump import bump
from session_ops.limits import Limits
from session_ops.operations import Update
from session_ops.records import NewSession
from tests.owned import OFF, ON, Host, as_administrator, first_bump, load_functions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.generation import RedisGeneration
    from session_ops.records import Record, Row
    from session_ops.settings import Flag
    from tests.servers import RedisServer

LONG = 30.0
"""Seconds of a lease that no test outlives."""


class Fleet:
    """Hosts on one Redis and one database. The first of them, `by_hand`, is whose steps a test takes itself."""

    def __init__(self, redis: RedisServer, url: str) -> None:
        self.redis = redis
        self.address = f"127.0.0.1:{redis.port}"
        self._url = url
        self._hosts: list[Host] = []
        self.by_hand = self.host()

    def host(self, flag: Flag = ON, *, lease: float = LONG, address: str | None = None, **settings: Any) -> Host:
        """Another host."""
        at = address or self.address
        host = Host(len(self._hosts), at, self._url, lease=lease, redis_deadline=2, legacy_deadline=5, **settings)
        host.flag = flag
        self._hosts.append(host)
        return host

    async def looked(self, flag: Flag = ON, **settings: Any) -> Host:
        """Another host, which has just looked at the control row: it has the lease."""
        host = self.host(flag, **settings)
        await host.store.steps.control()
        return host

    async def open(self) -> None:
        """Begin the first generation in an empty Redis."""
        await as_administrator(self.redis, "FLUSHALL")
        await load_functions(self.redis)
        await first_bump(self.by_hand, self.address)
        await self.by_hand.store.steps.control()

    async def close(self) -> None:
        """Close every host."""
        for host in self._hosts:
            await host.close()

    @property
    def steps(self) -> Any:
        """The legacy store's steps."""
        return self.by_hand.store.steps

    @property
    def generation(self) -> RedisGeneration:
        """Redis' steps, in the generation that `by_hand` has last seen."""
        current = self.by_hand.store.generations.current
        assert current is not None
        return current

    async def born(self, flag: Flag, **new: Any) -> str:
        """A session {"step": 1}, born in Redis (flag on) or in the legacy store; its id."""
        host = await self.looked(flag)
        session = await host.repository.create(NewSession(user_id="ann", data={"step": 1}, **new))
        return session.id

    async def row(self, session_id: str) -> Row:
        """The session's row."""
        row: Row | None = (await self.steps.get(session_id)).row
        assert row is not None
        return row

    async def written(self, session_id: str, step: int) -> Record:
        """A write in Redis that is not mirrored."""
        changed = await self.generation.merge(session_id, {"step": step}, (), None)
        assert changed is not None
        return changed.record

    async def legacy_write(self, row: Row, step: int, g: int) -> Row | None:
        """CAS in the legacy store, on the row that was seen."""
        return await self.steps.write(row, g, data=f'{{"step":{step}}}', revision="00" * 8)  # type: ignore[no-any-return]

    async def sql(self, statement: str) -> None:
        """Run one statement."""
        async with self.by_hand.store.database.engine.connect() as connection:
            await connection.exec_driver_sql(statement)

    async def expire(self, session_id: str, milliseconds: int = -1000) -> None:
        """Let the row say that the session ends so many ms from now."""
        at = await self.steps.now() + milliseconds
        await self.sql(f"UPDATE sessions SET expires_at = {at} WHERE id = '{session_id}'")

    async def mode(self, *, control: str | None = None, key: str | None = None) -> None:
        """Set the mode in the control row, or of the generation key."""
        if control is not None:
            await self.sql(f"UPDATE session_control SET mode = '{control}'")
        if key is not None:
            await as_administrator(self.redis, "SET", f"generation:{self.generation.prefix}:{{0}}", key, "XX")

    async def bump(self, *, to_redis: bool = True) -> None:
        """Another generation, at once: every lease is over, or the test says what happens to those that are not."""
        store = self.by_hand.store.control_store
        target = self.by_hand.connection if to_redis else None
        await bump(store, await store.read(), target=target, address=self.address, partitions=1, lease=-1.0)
        await self.steps.control()

    def key(self, session_id: str) -> str:
        """The session's key in Redis."""
        return f"session:{self.generation.prefix}:{{0}}:{session_id}"


def update(session_id: str, step: int) -> Update:
    """A write, as an operation."""
    return Update(session_id, {"step": step}, (), None, Limits())


def ending(row: Row, at: int) -> Row:
    """The row, with another end (ms)."""
    return msgspec.structs.replace(row, session=msgspec.structs.replace(row.session, expires_at=at))


class Pause:
    """Holds the next call of `owner.name` back, before it is sent or (`after`) before its answer is given."""

    def __init__(self, owner: object, name: str, *, after: bool = False) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        inner: Callable[..., Awaitable[Any]] = getattr(owner, name)

        async def held(*arguments: Any, **named: Any) -> Any:
            setattr(owner, name, inner)
            answer = await inner(*arguments, **named) if after else None
            self.reached.set()
            await self.go.wait()
            return answer if after else await inner(*arguments, **named)

        setattr(owner, name, held)

    async def until(self, running: asyncio.Task[Any]) -> None:
        """Wait until the call is held; its task must not end before."""
        reached = asyncio.ensure_future(self.reached.wait())
        await asyncio.wait([reached, running], return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        assert self.reached.is_set(), "the operation has ended without this step"


__all__ = ["LONG", "OFF", "ON", "Fleet", "Pause", "ending", "update"]
