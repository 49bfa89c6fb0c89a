"""Touches that nobody waits for, in SQL: decided by this host's clock, sent one at a time per session."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from session_ops.errors import SessionOpsError
from session_ops.stores.expiry import slide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.records import Session

_AT_ONCE = 100
"""Touches under way: more would take the connections that callers wait for. What is left out is due again at the next
read.
"""


class LegacySliding:
    """Sends touches where they are due. `ttl` and `max_lifetime` (0: none) are in seconds.

    An answer to a read does not carry the database's time, so that a host whose clock is off sends a touch early or
    late by as much; where an expiry moves to is decided in the database, by its own clock.
    """

    def __init__(self, touch: Callable[[str], Awaitable[Session]], *, ttl: int, max_lifetime: int) -> None:
        self._touch = touch
        self._ttl = ttl
        self._max_lifetime = max_lifetime
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self.failures = 0

    def touch(self, session: Session) -> bool:
        """Send a touch if one is due; whether one was sent. Never raises or waits."""
        now = time.time_ns() // 1_000_000
        if session.expires_at <= now or session.id in self._under_way or len(self._under_way) >= _AT_ONCE:
            return False
        if slide(now, session.created_at, session.ttl or self._ttl, self._max_lifetime) <= session.expires_at:
            return False
        self._under_way[session.id] = asyncio.get_running_loop().create_task(self._send(session.id))
        return True

    async def _send(self, session_id: str) -> None:
        try:
            await self._touch(session_id)
        except SessionOpsError:
            self.failures += 1
        finally:
            del self._under_way[session_id]
