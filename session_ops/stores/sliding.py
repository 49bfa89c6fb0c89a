"""Touches that nobody waits for: a session that was read slides on after its reader has been answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_ops.errors import StoreUnavailableError
from session_ops.stores.expiry import slide
from session_ops.stores.layout import partition_of

if TYPE_CHECKING:
    import asyncio

    from session_ops.records import Session
    from session_ops.stores.ticks import Answer, Changes, Clock


class Sliding:
    """Sends touches where they are due, once per session however many have read it."""

    def __init__(self, touches: Changes, clock: Clock, *, ttl: int, max_lifetime: int, partitions: int) -> None:
        self._touches = touches
        self._clock = clock
        self._ttl = ttl
        self._max_lifetime = max_lifetime
        self._partitions = partitions
        self._under_way: set[str] = set()
        self.failures = 0

    def due(self, session: Session) -> bool:
        """Whether a touch now would move the session's expiry: at most once per step of ttl/20."""
        now = self._clock.now()
        if now is None or session.expires_at <= now:
            return False
        return slide(now, session.created_at, session.ttl or self._ttl, self._max_lifetime) > session.expires_at

    def touch(self, session: Session) -> bool:
        """Send a touch if one is due; whether one was sent. Never raises: a touch that fails is counted, and the next
        read of the session sends another.
        """
        if not self.due(session) or session.id in self._under_way:
            return False
        try:
            future = self._touches.add(partition_of(session.id, self._partitions), session.id)
        except StoreUnavailableError:
            self.failures += 1
            return False
        self._under_way.add(session.id)
        future.add_done_callback(lambda done: self._done(session.id, done))
        return True

    def _done(self, session_id: str, future: asyncio.Future[Answer]) -> None:
        self._under_way.discard(session_id)
        if future.cancelled() or future.exception() is not None:
            self.failures += 1
