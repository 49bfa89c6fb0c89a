"""The ends of sessions while the legacy store is complete: its rows are the outbox, and Redis is asked about its own.

A row that Redis owns is never taken for ended by its date alone: a touch may be on its way. Redis is asked, and while
it cannot be, such rows are left alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from session_ops.records import Record, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.ownership import RedisSteps
    from session_ops.records import Ended, Row
    from session_ops.stores.found import Missing
    from session_ops.stores.legacy import LegacySessionRepository
    from session_ops.stores.legacy_steps import LegacySteps

_SWEEPS: Final = 100
"""Steps of one call that take ended sessions out of Redis' indexes: what is left then waits for the next run."""


class OwnedEnds:
    """Cleanup in the modes mirror and hold. `usable` answers Redis where it may be asked."""

    def __init__(
        self, legacy: LegacySessionRepository, steps: LegacySteps, usable: Callable[[], RedisSteps | None]
    ) -> None:
        self._legacy = legacy
        self._steps = steps
        self._usable = usable

    async def clean(self, limit: int) -> list[Ended]:
        """Up to `limit` ends that are to be told: of Redis' sessions first, then as the legacy store takes its own."""
        redis = self._usable()
        ended: list[Ended] = []
        if redis is not None:
            ended = await self._theirs(redis, limit)
            await self._remove(redis, limit)
            for _ in range(_SWEEPS):
                if await redis.sweep(limit) < limit:
                    break
        if len(ended) < limit:
            ended += await self._legacy.clean(limit - len(ended))
        return ended

    async def _theirs(self, redis: RedisSteps, limit: int) -> list[Ended]:
        rows = await self._steps.lapsed(redis.generation, limit)
        given = await asyncio.gather(*[self._give(redis, row) for row in rows])
        return [end for ends in given for end in ends]

    async def _give(self, redis: RedisSteps, row: Row) -> list[Ended]:
        return await self._steps.give(row, redis.generation) if await self._is_over(redis, row) else []

    async def _remove(self, redis: RedisSteps, limit: int) -> None:
        async def remove(row: Row) -> None:
            if await self._is_over(redis, row):
                await self._steps.purge(row)

        await asyncio.gather(*map(remove, await self._steps.over(redis.generation, limit)))

    async def _is_over(self, redis: RedisSteps, row: Row) -> bool:
        """Whether Redis has nothing unexpired that is newer; what it has is brought to the row first."""
        found = await redis.read(row.session.id)
        if self._usable() is not redis:
            return False  # the answer does not count
        newer = _unexpired(found)
        if newer is None or newer.session.version <= row.session.version:
            return not isinstance(found, Session)
        await self._steps.apply(newer, redis.generation)
        return False


def _unexpired(found: Session | Missing) -> Record | None:
    if isinstance(found, Session):
        found.data  # noqa: B018 - decodes it here, where what is broken spoils no other session's statement
        return Record(state="active", session=found)
    return found.record if found.record is not None and not found.expired else None
