"""Records of generations that are over: they would fill Redis twice over while the mover refills it.

A bump notes the prefix that it leaves behind. Its generation key goes first, so that whoever still asks there is told
that it is lost; then the records, bucket by bucket and along the expiry index, and with them the indexes that name
them. Markers stand in no index: they are small, and go by their own TTL. When nothing is left the prefix is forgotten.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec
import sqlalchemy

from session_ops.stores.layout import Names, unpack_changed
from session_ops.stores.legacy_prepared import Statement
from session_ops.stores.replies import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.owned_access import OwnedStore

PAGE: Final = 200
"""Records that are removed at once: some 2 ms of Redis' time."""

SHARE: Final = 0.5
"""Of the time; the rest is left to the service."""


class OldGenerations:
    """Removes what the control row still names. `between` is awaited between two pages, and may raise."""

    def __init__(self, store: OwnedStore, *, partitions: int, between: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._partitions = partitions
        self._between = between
        driver = store.database.engine.dialect
        table = driver.identifier_preparer.format_table(store.control_schema.control)
        forget = sqlalchemy.text(
            f"UPDATE {table} SET old_prefixes = :left WHERE generation = :g AND old_prefixes = :seen RETURNING 1"
        )
        self._forget = Statement(lambda: forget, driver)

    async def remove(self) -> int:
        """Remove the old generations on the Redis in force, and forget them; how many sessions they had.

        Interrupted anywhere, the next call goes on. Raises `StoreUnavailableError`.
        """
        control = await self._store.control_store.read()
        removed = 0
        for prefix in control.old_prefixes:
            if prefix != control.prefix:
                for partition in range(self._partitions):
                    removed += await self._partition(Names(prefix, partition))
        if control.old_prefixes:
            seen = msgspec.json.encode(control.old_prefixes).decode()
            await self._store.database.change(self._forget, g=control.generation, seen=seen, left="[]")
        return removed

    async def _partition(self, names: Names) -> int:
        call = self._store.connection.call
        await call("DEL", names.generation, change=True)
        indexes = names.generation.replace(b"generation:", b"sessions:", 1) + b":"
        removed = 0
        while buckets := await call("ZRANGE", indexes + b"created", 0, 0):
            removed += await self._filed(names, indexes, indexes + b"created:" + buckets[0])
            await call("ZREM", indexes + b"created", *buckets, change=True)
        removed += await self._filed(names, indexes, indexes + b"expiry")
        rest = (b"created", b"due", b"expiry", b"lost", b"ended", b"stats")
        await call("DEL", *(indexes + name for name in rest), change=True)
        return removed

    async def _filed(self, names: Names, indexes: bytes, index: bytes) -> int:
        """Remove the sessions that one index names, page by page; how many there were."""
        call = self._store.connection.call
        removed = 0
        while ids := await call("ZRANGE", index, 0, PAGE - 1):
            await self._between()
            began = time.monotonic()
            heads = await asyncio.gather(*(call("HGET", names.session + each, "") for each in ids))
            keys = [names.session + each for each in ids]
            for session_id, head in zip(ids, heads, strict=True):
                keys += _indexed(indexes, session_id.decode(), head)
            await call("DEL", *keys, change=True)
            await call("ZREM", index, *ids, change=True)
            removed += sum(head is not None for head in heads)
            await asyncio.sleep((time.monotonic() - began) * (1 - SHARE) / SHARE)
        return removed


def _indexed(indexes: bytes, session_id: str, head: bytes | None) -> list[bytes]:
    """The indexes that name a session: those of its user and of its agent."""
    if head is None:
        return []
    try:
        session = unpack_changed(session_id, head)
    except MALFORMED:
        return []
    agent = [indexes + b"agent:" + session.agent_id.encode()] if session.agent_id else []
    return [indexes + b"user:" + session.user_id.encode(), *agent]
