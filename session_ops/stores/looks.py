"""Looks at the legacy store, grouped as the mirror's writes are: all that wait together leave in one statement.

What a look must see at one instant, the control row and its session's row, it still sees in one statement.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from session_ops.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

Seen = TypeVar("Seen")

# While one statement is answered another is under way; more would only make them smaller.
_AT_ONCE: Final = 2
_MOST: Final = 200


class Looks(Generic[Seen]):
    """Groups looks. `look` makes one statement of many ids, and answers what it saw of each."""

    def __init__(self, look: Callable[[Sequence[str]], Awaitable[Mapping[str, Seen]]]) -> None:
        self._look = look
        self._waiting: list[tuple[str, asyncio.Future[Seen]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def add(self, session_id: str) -> asyncio.Future[Seen]:
        """Look at a session; raises `StoreUnavailableError`. A statement that is under way already does not count."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Seen] = loop.create_future()
        self._waiting.append((session_id, future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._send)
        return future

    def _send(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._under_way) < _AT_ONCE:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            task = asyncio.get_running_loop().create_task(self._ask(batch))
            self._under_way.add(task)
            task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send()

    async def _ask(self, batch: Sequence[tuple[str, asyncio.Future[Seen]]]) -> None:
        try:
            seen = await self._look(sorted({session_id for session_id, _ in batch}))
        except StoreUnavailableError as error:
            for _, future in batch:
                if not future.done():
                    # One error each: a traceback belongs to one caller
                    future.set_exception(type(error)(error.store, error.reason))
            return
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(StoreUnavailableError("legacy", type(error).__name__))
            raise
        for session_id, future in batch:
            if not future.done():
                future.set_result(seen[session_id])
