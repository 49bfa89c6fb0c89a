"""The implementations that the contract suite runs over, and what the suite needs to know of each."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Protocol

from session_ops.stores.layout import Names, partition_of
from session_ops.stores.redis import RedisSessionRepository

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.stores.connection import Connection
    from session_ops.stores.contract import SessionRepository

_EXPIRES = struct.Struct("<Q")
_NEAR = 129
"""The first byte of the bookkeeping of a session that is in the expiry index."""
_EXPIRES_AT = 26
"""Where the bookkeeping has the expiry: behind format, state, version, created and updated."""


class Backend(Protocol):
    """One implementation under test. All repositories of a backend are on one store, empty at the start."""

    moves: bool
    """Whether sessions move between stores, which raises `version` too, so that it counts more than changes."""

    def repository(self, **settings: Any) -> SessionRepository:
        """A repository with these settings: `ttl` and `max_lifetime` in seconds, `limits`."""
        ...

    async def pass_time(self, session_id: str, seconds: float) -> None:
        """Make the session as old as if so much time had passed since it was made and used."""
        ...


class RedisBackend:
    """`RedisSessionRepository` on a real Redis."""

    moves = False

    def __init__(
        self, make: Callable[..., RedisSessionRepository], administrator: Connection, prefix: str, partitions: int
    ) -> None:
        self._make = make
        self._administrator = administrator
        self._prefix = prefix
        self._partitions = partitions

    def repository(self, **settings: Any) -> RedisSessionRepository:
        """A repository on a connection of its own."""
        return self._make(prefix=self._prefix, partitions=self._partitions, **settings)

    def key(self, session_id: str) -> bytes:
        """The session's key."""
        return Names(self._prefix, partition_of(session_id, self._partitions)).session_key(session_id)

    async def pass_time(self, session_id: str, seconds: float) -> None:
        """Move the times in the bookkeeping and in the expiry index back."""
        names = Names(self._prefix, partition_of(session_id, self._partitions))
        key = names.session_key(session_id)
        head = bytearray(await self._administrator.call("HGET", key, ""))
        for at in (_EXPIRES_AT - 16, _EXPIRES_AT - 8, _EXPIRES_AT):
            (before,) = _EXPIRES.unpack_from(head, at)
            _EXPIRES.pack_into(head, at, before - int(seconds * 1000))
        (expires_at,) = _EXPIRES.unpack_from(head, _EXPIRES_AT)
        (created_at,) = _EXPIRES.unpack_from(head, _EXPIRES_AT - 16)
        head[0] = _NEAR
        index = names.generation.replace(b"generation:", b"sessions:")
        await self._administrator.call("HSET", key, "", bytes(head), change=True)
        await self._administrator.call("ZADD", index + b":expiry", expires_at, session_id, change=True)
        for kind in await self._administrator.call("KEYS", index + b":*"):
            if not kind.endswith((b":expiry", b":stats", b":ended")):
                await self._administrator.call("ZADD", kind, "XX", created_at, session_id, change=True)
