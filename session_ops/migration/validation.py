"""`migrate validate`: whether both stores agree on every session, in both directions, while the fleet goes on.

Rows are read by id and compared with their records; then the ids that Redis has filed are walked for those of which the
legacy store knows nothing. A sample does that with some of each; by digest each store is added up by itself, and only
the parts that differ are compared. What differs is looked at again before it counts (`settling`).

Nothing is kept per session: what is held is a page, the sessions that are to be looked at again, and the mismatches, of
which there may be so many and no more.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from session_ops.errors import PreconditionError
from session_ops.migration.checkpoint import Checkpoint
from session_ops.migration.comparison import DELETED, GENERATION, OWNER, Mismatch, Seen, digest, seen
from session_ops.migration.digests import SHARES, Digests, part_of
from session_ops.migration.mover import StoppedError
from session_ops.migration.record_ids import Place, RecordIds
from session_ops.migration.repair import Repair
from session_ops.migration.settling import PAUSES, Looker
from session_ops.migration.throttle import Throttle
from session_ops.migration.validated import Validated, Way
from session_ops.migration.work import Progress, silent
from session_ops.stores.legacy_rows import bucket_of
from session_ops.stores.legacy_statements import PARTS
from session_ops.stores.legacy_steps import clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from session_ops.owned_access import OwnedStore
    from session_ops.stores.legacy_moves import Moves

_EXPIRES: Final = PARTS.index("expires_at")

SOON: Final = 60_000
"""Milliseconds: what ends so soon may be gone from one store when the other is read."""

SUSPECTS: Final = 500
"""Sessions that wait to be looked at again, at most."""

AGAIN: Final = 2.0
"""Seconds after which they are, however few; and after which what is done is remembered."""

MOST: Final = 1_000
"""Mismatches after which there is nothing more to learn."""


class Validator:
    """One validation. `moves` reads the application's table with time enough; `store` has both stores.

    `stop` may be called at any time. `before` is awaited before every page, for tests.
    """

    def __init__(
        self,
        store: OwnedStore,
        moves: Moves,
        *,
        lease: float,
        partitions: int = 1,
        throttle: Throttle | None = None,
        progress: Progress = silent,
        keep: Path | None = None,
        most: int = MOST,
        pauses: Sequence[float] = PAUSES,
        again: float = AGAIN,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`lease` in seconds. `keep`: a file for what is done, so that another call goes on with it."""
        self._store = store
        self._moves = moves
        self._lease = lease
        self._partitions = partitions
        self._throttle = throttle or Throttle()
        self._progress = progress
        self._keep = keep
        self._most = most
        self._pauses = pauses
        self._again = again
        self._before = before
        self._asked: str | None = None
        self._looked = self._settled = self._kept = float("-inf")
        self._suspects: dict[str, None] = {}
        self._total = 0
        self._looker: Looker
        self._ids: RecordIds | None
        self._at: Checkpoint

    def stop(self, reason: str) -> None:
        """Ask for the end behind the page that is under way."""
        self._asked = reason

    async def run(self, way: Way, *, sample: int = 1_000) -> Validated:
        """Compare. `sample`: of each store so many. Raises `StoreUnavailableError` and `PreconditionError`."""
        began = time.monotonic()
        control = await self._store.control_store.read()
        if control.mode == "final":
            raise PreconditionError("the migration is final: the legacy store is not kept any more, there is no second")
        await self._store.steps.control()
        self._total = await self._moves.rows()
        here = self._store.generations.current
        self._ids = RecordIds(self._store.connection, here.prefix, self._partitions) if here is not None else None
        key = f"{way} {control.generation} {self._store.schema.sessions.fullname}"
        self._at, resumed = Checkpoint.load(self._keep, key, control.now + SOON)
        self._looker = Looker(
            self._moves,
            lambda: self._store.generations.current,
            generation=control.generation,
            after=self._at.after,
            pauses=self._pauses,
        )
        state, reason = "done", None
        try:
            if way == "sample":
                await self._sample(sample)
            elif way == "full":
                await self._both(None)
            else:
                await self._by_digest()
            await self._settle()
        except StoppedError as stopped:
            state, reason = "stopped", stopped.reason
            self._note()
        if state == "done" and self._keep is not None:
            self._keep.unlink(missing_ok=True)
        at = self._at
        return Validated(
            way=way, state=state, reason=reason, generation=control.generation, mode=control.mode, redis=control.redis,
            rows=at.rows, records=at.records, in_redis=at.in_redis, in_legacy=at.in_legacy, lag=at.lag, busy=at.busy,
            kinds=dict(Counter(each.kind for each in at.mismatches)), mismatches=list(at.mismatches),
            digests=at.digests, seconds=round(time.monotonic() - began, 3), resumed=resumed,
        )  # fmt: skip

    async def repair(self) -> list[str]:
        """Repair what `run` has found; the ids on which the stores agree now."""
        return await Repair(self._store, self._moves, self._looker).all(self._at.mismatches)

    async def _sample(self, most: int) -> None:
        rows = await self._moves.sample(most)
        self._count(rows)
        for start in range(0, len(rows), SUSPECTS):
            await self._between("rows")
            self._suspect(await self._looker.rows([seen(row) for row in rows[start : start + SUSPECTS]]))
        ids = await self._ids.sample(most) if self._ids is not None else []
        for start in range(0, len(ids), SUSPECTS):
            await self._between("records")
            self._at.records += len(ids[start : start + SUSPECTS])
            self._suspect(await self._looker.ids(ids[start : start + SUSPECTS]))

    async def _both(self, parts: frozenset[int] | None) -> None:
        """Every row against its record, then every record of which there may be no row; `parts`: only theirs."""
        if self._at.step in ("", "rows"):
            self._at.step = "rows"
            async for rows in self._rows(None if parts is None else sorted({part // SHARES for part in parts})):
                if parts is None:
                    self._count(rows)
                wanted = rows if parts is None else [row for row in rows if part_of(row[0]) in parts]
                self._suspect(await self._looker.rows(await self._looker.differing(wanted)))
            self._next("records")
        async for ids in self._records():
            wanted_ids = [each for each in ids if parts is None or part_of(each) in parts]
            if parts is None:
                self._at.records += len(ids)
            known = await self._moves.known(wanted_ids)
            self._suspect_ids(each for each in wanted_ids if each not in known)

    async def _by_digest(self) -> None:
        ours = self._at.ours = self._at.ours or Digests()
        theirs = self._at.theirs = self._at.theirs or Digests()
        if self._at.step in ("", "add rows"):
            self._at.step = "add rows"
            async for rows in self._rows(None):
                self._count(rows)
                for row in rows:
                    self._add_row(ours, seen(row))
            self._next("add records")
        if self._at.step == "add records":
            async for ids in self._records():
                self._at.records += len(ids)
                for session_id, record in zip(ids, await self._looker.records(ids), strict=True):
                    if isinstance(record, Exception):
                        self._suspect_ids([session_id])
                    elif record is not None and record.state == "active" and record.session.expires_at > self._at.after:
                        theirs.add(session_id, digest(record.session))
            self._at.digests = (ours.whole, theirs.whole)
            self._next("rows")
        if parts := ours.differing(theirs):
            await self._both(parts)

    def _add_row(self, digests: Digests, row: Seen) -> None:
        """A row's session, where Redis should have it. What cannot be summed up is looked at by itself."""
        if row.deleted or row.expires_at is None or row.expires_at <= self._at.after:
            return
        wrong_bucket = row.bucket != bucket_of(row.id)
        owned = row.in_redis(self._looker.generation)
        if wrong_bucket or (owned and row.session is None):
            self._suspect_ids([row.id])
        if owned and row.session is not None:
            digests.add(row.id, digest(row.session))

    async def _rows(self, buckets: Sequence[int] | None) -> AsyncIterator[Sequence[Sequence[Any]]]:
        while True:
            await self._between("rows")
            began, most = time.monotonic(), self._throttle.most
            page = await self._moves.bare_page(self._at.row, most, buckets)
            read = time.monotonic() - began
            self._throttle.claimed(read, len(page), sum(len(row[9] or "") for row in page))
            if page:
                yield page
                self._at.row = page[-1][0]
            if len(page) < most:
                return
            await self._throttle.rest(time.monotonic() - began, len(page))

    async def _records(self) -> AsyncIterator[list[str]]:
        if self._ids is None:
            return
        await self._between("records")
        began = time.monotonic()
        async for ids, place in self._ids.walk(self._at.place, SUSPECTS):
            yield ids
            self._at.place = place
            await self._throttle.rest(time.monotonic() - began, len(ids))
            await self._between("records")
            began = time.monotonic()

    def _next(self, step: str) -> None:
        self._at.step, self._at.row, self._at.place = step, "", Place()

    def _count(self, rows: Sequence[Sequence[Any]]) -> None:
        self._at.rows += len(rows)
        live = [row for row in rows if not row[DELETED] and (row[_EXPIRES] or 0) > self._at.after]
        in_redis = sum([row[OWNER] == "redis" and row[GENERATION] == self._looker.generation for row in live])
        self._at.in_redis += in_redis
        self._at.in_legacy += len(live) - in_redis

    def _suspect(self, mismatches: Sequence[Mismatch]) -> None:
        self._suspect_ids(each.id for each in mismatches)

    def _suspect_ids(self, ids: Any) -> None:
        known = {each.id for each in self._at.mismatches}
        self._suspects.update((each, None) for each in ids if each not in known)

    async def _between(self, step: str) -> None:
        """Between two pages: signs from outside, what waits to be looked at again, and what is to be remembered."""
        if self._before is not None:
            await self._before(step)
        if self._asked is not None:
            raise StoppedError(self._asked)
        await self._watch()
        waited = clock() - self._settled
        if len(self._suspects) >= SUSPECTS or (self._suspects and waited >= self._again):
            await self._settle()
        if clock() - self._kept >= self._again and not self._suspects:
            self._note()
            self._kept = clock()
        found = f"{len(self._at.mismatches):,} mismatches" + (f", {self._at.lag:,} by lag" if self._at.lag else "")
        reason = f"{found}, {self._throttle.reason}" if self._throttle.reason else found
        done = self._at.rows if "row" in self._at.step else self._at.records
        self._progress(self._at.step or step, done=done, total=self._total or None, reason=reason)

    async def _watch(self) -> None:
        """The stores' latency, which sets the pace; and that this is still the same generation."""
        if clock() - self._looked <= self._lease / 3:
            return
        began = time.monotonic()
        control = await self._store.steps.control()
        legacy, redis = time.monotonic() - began, None
        if control.generation != self._looker.generation:
            raise StoppedError("another generation has begun: every session is the legacy store's; begin again")
        current = self._store.generations.current
        if current is not None:
            began = time.monotonic()
            await current.probe()
            redis = time.monotonic() - began
        self._looked = clock()
        await self._throttle.measured(redis, legacy)

    async def _settle(self) -> None:
        self._settled = clock()
        suspects, self._suspects = list(self._suspects), {}
        for start in range(0, len(suspects), SUSPECTS):
            await self._watch()
            settled = await self._looker.settle(suspects[start : start + SUSPECTS])
            self._at.lag += settled.lag
            self._at.busy += settled.busy
            self._at.mismatches += settled.mismatches
        self._settled = clock()
        if len(self._at.mismatches) >= self._most:
            raise StoppedError(f"{len(self._at.mismatches):,} mismatches; there is more to repair than to find")

    def _note(self) -> None:
        if self._keep is not None and not self._suspects:
            self._at.save(self._keep)
