"""Turns at one session within a process: who has collided once lets the others of its process go before it tries again.

Many requests that change one session would otherwise spend their rounds on each other. Between processes the stores'
own guards decide, as ever.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Turns:
    """A lock per session id, kept while somebody has it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def at(self, session_id: str) -> AsyncIterator[None]:
        """One at a time, in the order of arrival."""
        lock, waiting = self._locks.get(session_id, (asyncio.Lock(), 0))
        self._locks[session_id] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._locks[session_id]
            if waiting == 1:
                del self._locks[session_id]
            else:
                self._locks[session_id] = (lock, waiting - 1)
