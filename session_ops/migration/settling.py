"""Lag told from mismatch: a change under way leaves the stores apart for a moment, and a mismatch stays.

What differs is looked at again, a few times and with growing pauses. The last two looks are further apart than any step
of the protocol may take. Where both stores moved on between them the session is merely busy.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from session_ops.errors import CorruptSessionError
from session_ops.limits import is_id
from session_ops.migration.comparison import OWNER, Mismatch, Seen, compare, seen, surely_same
from session_ops.records import Record, Session
from session_ops.stores.found import Missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from session_ops.generation import RedisGeneration
    from session_ops.stores.legacy_moves import Moves

PAUSES: Final = (0.02, 0.2, 0.8, 2.5)
"""Seconds before each look but the first. A step has 2 s at most (docs/ownership.md, section 2)."""

READS: Final = 500
"""Records that are asked for at once."""


class Pair(NamedTuple):
    """A session in both stores, and what is wrong with it."""

    row: Seen | None
    record: Record | None
    mismatch: Mismatch | None


class Settled(NamedTuple):
    """What came of looking again: mismatches, and how many were lag, or changed as often as they were looked at."""

    mismatches: list[Mismatch]
    lag: int
    busy: int


class Looker:
    """Looks at both stores. `redis` answers the generation in force, None where there is none."""

    def __init__(
        self,
        moves: Moves,
        redis: Callable[[], RedisGeneration | None],
        *,
        generation: int,
        after: int,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """`after`: sessions that end before it (ms) are left out."""
        self._moves = moves
        self._redis = redis
        self._pauses = pauses
        self.generation = generation
        self.after = after

    async def rows(self, rows: Iterable[Seen]) -> list[Mismatch]:
        """What seems to be wrong with rows that were just read."""
        asked = [row for row in rows if row.in_redis(self.generation) or (row.expires_at or self.after) >= self.after]
        pairs = await self._pairs({row.id: row for row in asked})
        return [pair.mismatch for pair in pairs.values() if pair.mismatch is not None]

    async def differing(self, page: Sequence[Sequence[Any]]) -> list[Seen]:
        """The rows of a page (`Moves.page`) that are to be compared: all but those that Redis has exactly so."""
        redis = self._redis()
        if redis is None:
            return [seen(row) for row in page]
        asked = [row for row in page if row[OWNER] == "redis" and is_id(row[0])]
        found = dict(zip([row[0] for row in asked], await redis.read_together([row[0] for row in asked]), strict=True))
        return [seen(row) for row in page if not surely_same(row, found.get(row[0]), self.generation, self.after)]

    async def ids(self, ids: Sequence[str]) -> list[Mismatch]:
        """What seems to be wrong with the sessions of these ids."""
        return [pair.mismatch for pair in (await self.look(ids)).values() if pair.mismatch is not None]

    async def look(self, ids: Sequence[str]) -> dict[str, Pair]:
        """Both stores' view of these ids, the row first."""
        rows = {row.id: row for row in map(seen, await self._moves.among(ids))}
        return await self._pairs({each: rows.get(each) for each in ids})

    async def settle(self, ids: Sequence[str]) -> Settled:
        """Look again at what seemed wrong. It takes 3.5 s where something is."""
        left, lag = list(ids), 0
        before = pairs = await self.look(left)
        for pause in self._pauses:
            wrong = [each for each in left if pairs[each].mismatch is not None]
            lag += len(left) - len(wrong)
            left = wrong
            if not left:
                break
            await asyncio.sleep(pause)
            before, pairs = pairs, await self.look(left)
        return self._verdict(left, before, pairs, lag)

    @staticmethod
    def _verdict(left: list[str], before: dict[str, Pair], pairs: dict[str, Pair], lag: int) -> Settled:
        mismatches, busy = [], 0
        for each in left:
            earlier, now = before[each], pairs[each]
            if now.mismatch is None:
                lag += 1
            elif _stays(earlier, now):
                mismatches.append(now.mismatch)
            else:
                busy += 1
        return Settled(mismatches, lag, busy)

    async def records(self, ids: Sequence[str]) -> list[Record | CorruptSessionError | None]:
        """What Redis has under these ids; `CorruptSessionError` where it is no session."""
        redis = self._redis()
        found: dict[str, Record | CorruptSessionError | None] = dict.fromkeys(ids)
        # What the service would not take as an id is in no Redis, and must not get into its protocol
        asked = [each for each in found if is_id(each)] if redis is not None else []
        for start in range(0, len(asked), READS):
            some = asked[start : start + READS]
            answers = await asyncio.gather(*(redis.read(each) for each in some), return_exceptions=True)  # type: ignore[union-attr]
            for session_id, answer in zip(some, answers, strict=True):
                found[session_id] = _record(answer)
        return [found[each] for each in ids]

    async def _pairs(self, rows: dict[str, Seen | None] | dict[str, Seen]) -> dict[str, Pair]:
        ids = list(rows)
        pairs = {}
        for session_id, found in zip(ids, await self.records(ids), strict=True):
            row, corrupt = rows[session_id], isinstance(found, CorruptSessionError)
            record = None if isinstance(found, CorruptSessionError) else found
            mismatch = compare(
                session_id, row, record, generation=self.generation, after=self.after, unreadable=corrupt
            )
            pairs[session_id] = Pair(row, record, mismatch)
        return pairs


def _stays(earlier: Pair, now: Pair) -> bool:
    """Whether the same is wrong as before, and one of the stores has stood still meanwhile."""
    kinds = [pair.mismatch.kind if pair.mismatch is not None else None for pair in (earlier, now)]
    return kinds[0] == kinds[1] and (earlier.row == now.row or earlier.record == now.record)


def _record(answer: object) -> Record | CorruptSessionError | None:
    """What a read has answered."""
    if isinstance(answer, Session):
        return Record(state="active", session=answer)
    if isinstance(answer, Missing):
        return answer.record
    if isinstance(answer, CorruptSessionError):
        return answer
    if isinstance(answer, BaseException):
        raise answer
    return None
