"""What `migrate validate --repair` does: the steps of the protocol that somebody did not live to make, and no others.

Each carries its own fences, so that a repair that comes late, or twice, or while the session is in use, changes nothing
that is right. Where no step applies a person has to decide (`comparison.KINDS`), and nothing is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_ops.errors import StoreUnavailableError
from session_ops.records import Row
from session_ops.stores.legacy_rows import bucket_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.generation import RedisGeneration
    from session_ops.migration.comparison import Mismatch
    from session_ops.migration.settling import Looker, Pair
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.legacy_moves import Moves

PAGE = 100
"""Sessions between two looks at the control row: the lease hangs on it."""


class Repair:
    """Puts right what the protocol can. Raises `StoreUnavailableError`."""

    def __init__(self, store: OwnedStore, moves: Moves, looker: Looker) -> None:
        self._store = store
        self._moves = moves
        self._looker = looker

    async def all(self, mismatches: Sequence[Mismatch]) -> list[str]:
        """Repair these; the ids of those on which the stores agree now."""
        ids = [each.id for each in mismatches if not each.by_hand]
        agree: list[str] = []
        for start in range(0, len(ids), PAGE):
            some = ids[start : start + PAGE]
            redis = await self._redis()
            for session_id, pair in (await self._looker.look(some)).items():
                if pair.mismatch is not None:
                    await self._one(redis, session_id, pair)
            again = await self._looker.look(some)
            agree += [each for each in some if again[each].mismatch is None]
        return agree

    async def _one(self, redis: RedisGeneration | None, session_id: str, pair: Pair) -> None:
        kind = pair.mismatch.kind if pair.mismatch is not None else ""
        if kind == "bucket":
            await self._moves.set_bucket(session_id, bucket_of(session_id))
        elif kind in {"not returned", "not ended", "mirror behind"} and pair.record is not None:
            await self._store.steps.apply(pair.record, self._looker.generation)
        elif kind == "not arrived" and redis is not None and pair.row is not None and pair.row.session is not None:
            row = pair.row
            await redis.put(
                Row(session=row.session, owner="redis", generation=row.generation, deleted=False, ended=False)  # type: ignore[arg-type]
            )

    async def _redis(self) -> RedisGeneration | None:
        """Redis, where there is a generation, asked just now and with a lease."""
        await self._store.steps.control()
        redis = self._store.generations.current
        if redis is None:
            return None
        self._store.control.heard_redis(await redis.probe())
        if redis.generation != self._looker.generation or self._store.ownership.usable() is None:
            raise StoreUnavailableError("redis", "no lease: another generation, or its clock differs by more than 2 s")
        return redis
