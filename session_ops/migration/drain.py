"""The drain: Redis has every live session, before it alone is to know them (docs/ownership.md, section 9).

The mover has been; what is left are claims that somebody did not live to put, and rows that were locked. So every row
is looked at, and where Redis does not evidently have what the row leaves to it, the session is read as a request reads
it, with its home in Redis: that finishes whatever was begun. It ends with a whole pass in which there was nothing to
do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from session_ops.errors import SessionOpsError, StoreUnavailableError, UnfinishedError
from session_ops.migration.comparison import seen
from session_ops.migration.settling import Looker
from session_ops.migration.work import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.migration.comparison import Seen
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.legacy_moves import Moves

PAGE: Final = 500
PASSES: Final = 5
"""Through the table at most: in mode hold no session goes back, and none is born in the legacy store."""

AT_ONCE: Final = 50

_ABSENT: Final = frozenset({"not arrived", "not returned", "redis behind", "unreadable"})
"""What a comparison may find that says: Redis does not have the session as its row leaves it to Redis."""


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: rows of the last pass, sessions that were read home, and ids that stay (a hundred at most)."""

    passes: int
    rows: int
    finished: int
    left: list[str]


class Drain:
    """Drains one legacy store. The flag of `store` has every session's home in Redis.

    Raises `StoreUnavailableError`.
    """

    def __init__(self, store: OwnedStore, moves: Moves, *, progress: Progress = silent) -> None:
        self._store = store
        self._moves = moves
        self._progress = progress
        self._rows = 0

    async def run(self) -> Drained:
        """Pass after pass, until one finds nothing to do."""
        finished, met, passes = 0, list[str](), 0
        for passes in range(1, PASSES + 1):
            before = met
            met = await self._pass()
            if not met or (passes > 1 and met == before):
                break
            finished += len(met)
        return Drained(passes=passes, rows=self._rows, finished=finished - len(met), left=met[:100])

    async def _pass(self) -> list[str]:
        """One pass; the ids of sessions that were not there."""
        self._rows, after, met = 0, "", list[str]()
        while page := await self._moves.page(after, PAGE):
            control = await self._store.steps.control()
            if control.mode != "hold":
                raise UnfinishedError(f"the mode is {control.mode}, and not hold any more: run the same again")
            now = await self._store.steps.now()
            looker = Looker(
                self._moves, lambda: self._store.generations.current, generation=control.generation, after=now
            )
            rows = [seen(row) for row in page]
            wanting = await _wanting(looker, rows, control.generation, now)
            for start in range(0, len(wanting), AT_ONCE):
                await asyncio.gather(*map(self._read, wanting[start : start + AT_ONCE]))
            met += wanting
            self._rows += len(rows)
            self._progress("drain", done=self._rows, reason=f"{len(met):,} were not there" if met else "")
            after = page[-1][0]
        return met

    async def _read(self, session_id: str) -> None:
        try:
            await self._store.ownership.get(session_id)
        except StoreUnavailableError as error:
            if error.reason != "unreadable row":
                raise
        except SessionOpsError:
            return  # no session; the next pass meets it again


async def _wanting(looker: Looker, rows: Sequence[Seen], generation: int, now: int) -> list[str]:
    """Live sessions of these rows that Redis does not have."""
    live = [row for row in rows if not row.deleted and (row.expires_at is None or row.expires_at > now)]
    ours = [row.id for row in live if not row.in_redis(generation)]
    theirs = await looker.rows(row for row in live if row.in_redis(generation))
    return [*ours, *(each.id for each in theirs if each.kind in _ABSENT)]
