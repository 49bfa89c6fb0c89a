"""The mirror's group commit: what many requests have changed in Redis reaches the legacy store in one statement.

A statement costs a round trip, a commit and a good part of a millisecond, whether it brings one row or a hundred. So
records wait while statements are under way, and all that wait then leave together.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from session_ops.errors import OutcomeUnknownError, StoreUnavailableError
from session_ops.stores.legacy_mirror import pack_copies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.records import Record
    from session_ops.stores.legacy_database import Database
    from session_ops.stores.legacy_prepared import Statement

# One statement is written while another is committed; more would only make them smaller.
_AT_ONCE: Final = 2
# Of one statement: it holds their rows' locks, and has to end well within the statement timeout.
_MOST: Final = 200

Waiting = tuple["Record", int, "asyncio.Future[bool]"]


class Mirror:
    """Applies records to the legacy store, all that come together in one statement."""

    def __init__(self, database: Database, statement: Statement) -> None:
        self._database = database
        self._statement = statement
        self._waiting: list[Waiting] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def add(self, record: Record, g: int) -> asyncio.Future[bool]:
        """Apply a record of generation `g`; whether its row has it (or a newer one of the same generation) now.

        False means that the row was looked at and refused it. Raises `StoreUnavailableError`, `OutcomeUnknownError`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((record, g, future))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._send)
        return future

    def _send(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._under_way) < _AT_ONCE:
            g = self._waiting[0][1]
            batch = [waiting for waiting in self._waiting if waiting[1] == g][:_MOST]
            taken = set(map(id, batch))
            self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
            task = asyncio.get_running_loop().create_task(self._apply(batch, g))
            self._under_way.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._send()

    async def _apply(self, batch: Sequence[Waiting], g: int) -> None:
        # Of one session only the newest version: a statement that finds two takes an arbitrary one
        newest: dict[str, Record] = {}
        for record, _, _ in batch:
            known = newest.get(record.session.id)
            if known is None or known.session.version < record.session.version:
                newest[record.session.id] = record
        try:
            changed = await self._change(list(newest.values()), g)
        except StoreUnavailableError as error:
            if len(newest) == 1 or isinstance(error, OutcomeUnknownError):
                _fail(batch, error)
            else:
                # One row that cannot be written must not fail the others
                await asyncio.gather(*[self._apply([each], g) for each in batch])
            return
        except BaseException as error:
            _fail(batch, StoreUnavailableError("legacy", type(error).__name__))
            raise
        for record, _, future in batch:
            if not future.done():
                future.set_result(record.session.id in changed)

    async def _change(self, records: Sequence[Record], g: int) -> set[str]:
        copies = pack_copies(records, self._database.dialect)
        return {row.id for row in await self._database.change(self._statement, copies=copies, g=g)}


def _fail(batch: Sequence[Waiting], error: StoreUnavailableError) -> None:
    for _, _, future in batch:
        if not future.done():
            # One error each: a traceback belongs to one caller
            future.set_exception(type(error)(error.store, error.reason))
