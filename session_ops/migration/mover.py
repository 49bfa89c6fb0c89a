"""The mover: brings every session to its home, in batches, in either direction (docs/ownership.md, section 6).

It decides nothing: the stage row says where the home of each session is, each step carries its own fences, and what a
dead mover leaves is finished by the next one, or by whoever touches the session first. While a batch is put, the next
one is claimed; the ids of both stand in the slice's row, written in the transaction of the claim, so that kill -9 costs
one batch that is put again and answered with NEWER.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops.errors import CorruptSessionError, PreconditionError, StoreUnavailableError
from session_ops.generation import OUT_OF_MEMORY
from session_ops.migration.old_generations import OldGenerations
from session_ops.migration.quarantine import Broken, Quarantine, broken, judge, to_mark
from session_ops.migration.run_records import FencedError, Run, Slice, Target
from session_ops.migration.samples import Sampler
from session_ops.migration.throttle import Throttle
from session_ops.migration.work import Progress, silent
from session_ops.stores.control_schema import COUNTS
from session_ops.stores.found import Missing, Put
from session_ops.stores.layout import pack_mark
from session_ops.stores.legacy_steps import clock
from session_ops.stores.ticks import TOGETHER, TOGETHER_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from session_ops.generation import RedisGeneration
    from session_ops.migration.runs import RunStore
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.layout import Packed
    from session_ops.stores.legacy_database import Transaction
    from session_ops.stores.legacy_moves import Moves

WINDOW: Final = 1_048_576
"""Bytes of data that are on their way to Redis at once."""

KEEP: Final = 5.0
"""Seconds between two signs of life."""

_AGAIN: Final = 0.2
"""Seconds before another look, while others have the last slices, or the run is paused."""

_TIMEOUTS: Final = frozenset({"statement timeout", "locked", "deadlock"})
"""Of a claim, after which it did not happen: a smaller one may."""


_NO_SESSION: Final = "no session under its key in Redis"

_Call = tuple["list[Packed]", "asyncio.Future[list[Put | None]]"]
"""A call of PUT under way."""


class StoppedError(Exception):
    """The run ends between two batches; the same command goes on with it. `resumable` False: something is in the way
    that only a person can put right."""

    def __init__(self, reason: str, *, resumable: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.resumable = resumable


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a mover has done in this call. `state`: done, or stopped for `reason`."""

    run_id: str
    state: str
    reason: str | None
    resumable: bool
    seconds: float
    scanned: int
    moved_in: int
    moved_back: int
    again: int
    expired: int
    quarantined: int
    unlinked: int = 0
    """Sessions of old generations that were removed from Redis first."""

    @property
    def changed(self) -> bool:
        """Whether anything was moved or put aside."""
        return bool(self.moved_in or self.moved_back or self.quarantined)


class Mover:
    """One mover of a run. Its methods raise `StoreUnavailableError`; what was claimed by then is finished by the next.

    `stop` may be called at any time, from a signal handler too. `before` is awaited before every step with its name,
    for tests: unlink, take, claim, put, mark, apply, quarantine, finish.
    """

    def __init__(
        self,
        store: OwnedStore,
        runs: RunStore,
        moves: Moves,
        *,
        lease: float,
        throttle: Throttle | None = None,
        progress: Progress = silent,
        total: int | None = None,
        stop_file: Path | None = None,
        most_broken: int = 1_000,
        partitions: int = 1,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`lease` in seconds. `most_broken`: rows of this run that may be put aside before it stops. `total`: rows of
        the table, for the status line.
        """
        self._store = store
        self._runs = runs
        self._moves = moves
        self._quarantine = Quarantine(store)
        self._throttle = throttle or Throttle()
        self._sampler = Sampler(store, runs.me)
        self._lease = lease
        self._progress = progress
        self._total = total
        self._stop_file = stop_file
        self._most_broken = most_broken
        self._partitions = partitions
        self._before = before
        self._asked: str | None = None
        self._kept = self._looked = float("-inf")
        self._counts: Counter[str] = Counter()
        self._broken_before = 0
        self._g = -1
        self._run: Run
        self._target: Target

    def stop(self, reason: str) -> None:
        """Ask for the end behind the batch that is under way."""
        self._asked = reason

    async def run(self, *, join: bool = False, take_over: bool = False, rate: int | None = None,
                  batch: int | None = None) -> Outcome:  # fmt: skip
        """Move until every session is at home, or until something stops it. See `RunStore.begin`."""
        began = time.monotonic()
        await self._begin()
        self._run = await self._runs.begin(join=join, take_over=take_over, rate=rate, batch=batch)
        self._broken_before = self._run.quarantined
        state, reason, resumable = "done", None, True
        try:
            if self._target.to_redis and not join:
                await self._make_room()
            await self._pass_until_done()
        except StoppedError as stopped:
            state, reason, resumable = "stopped", stopped.reason, stopped.resumable
        except FencedError:
            return self._outcome(began, "stopped", "another one has taken over, or has ended the run", resumable=True)
        except StoreUnavailableError as error:
            await self._give_up(str(error))
            raise
        if state == "done" or not join:
            await self._runs.end(self._run, state, reason)
        return self._outcome(began, state, reason, resumable=resumable)

    async def one(self, session_id: str) -> str:
        """Bring one session to its home; where it is then: redis, legacy, or absent. Uses the procedure itself, as a
        request does, so it needs no run and nobody's lock.
        """
        await self._begin()
        await self._store.repository.get(session_id)
        look = await self._store.steps.get(session_id)
        if look.row is None or look.row.deleted or look.row.ended:
            return "absent"
        redis = look.row.owner == "redis" and look.row.generation == look.control.generation
        return "redis" if redis else "legacy"

    async def _begin(self) -> None:
        control = await self._store.steps.control()
        self._target = await self._runs.target()
        self._g = control.generation
        if control.mode == "final":
            raise PreconditionError("the migration is final: the legacy store has nothing to move any more")
        if self._target.to_redis and control.pin is None:
            raise PreconditionError(
                "Redis is off: `session-ops generation bump --execute` begins a generation, then run this again"
            )

    async def _give_up(self, reason: str) -> None:
        """Leave the lock, if the database can still be told; else it lapses."""
        try:
            await self._runs.end(self._run, "stopped", reason)
        except StoreUnavailableError:
            return

    async def _make_room(self) -> None:
        """What generations that are over have left in Redis goes before Redis is filled again."""

        async def between() -> None:
            await self._may_go_on()
            await self._redis()
            await self._at("unlink")

        await self._redis()
        old = OldGenerations(self._store, partitions=self._partitions, between=between)
        self._counts["unlinked"] = await old.remove()

    async def _pass_until_done(self) -> None:
        while True:
            await self._may_go_on()
            await self._at("take")
            part = await self._runs.take(self._run, self._g)
            if part is False:
                await self._store.steps.control()
                self._same_generation()
                return
            if part is True:
                await asyncio.sleep(_AGAIN)
                continue
            self._counts["scanned"] += part.scanned
            try:
                await self._slice(part)
            except StoppedError:
                await self._checkpoint(part)
                raise
            await self._at("finish")
            await self._runs.finish(self._run, part)

    async def _slice(self, part: Slice) -> None:
        self._target = await self._runs.target()
        await self._redo(part)
        if self._target.to_redis:
            await self._put_aside(part)
            await self._in(part)
        if self._target.share < 100:
            await self._back(part)

    async def _checkpoint(self, part: Slice) -> None:
        """The slice's counts, and that it is still in work."""

        async def work(transaction: Transaction) -> None:
            await self._runs.note(transaction, self._run, part)

        await self._store.database.change_together(work)

    async def _redo(self, part: Slice) -> None:
        """What a mover had in work when it died, in either direction: put it, or put it again."""
        if not part.claimed:
            return
        rows = await self._moves.claimed(self._g, part.claimed)
        if rows:
            await self._redis()
            await self._put(part, rows)
        part.claimed = []

    async def _put_aside(self, part: Slice) -> None:
        """The rows of which the database itself can say that they cannot move."""
        while odd := await self._moves.odd(self._g, part.after, part.upto):
            for row in odd:
                await self._keep_aside(part, broken(row.id, row.reason, row.data))
            self._bearable()

    async def _in(self, part: Slice) -> None:
        """The move to Redis of every row of the slice that has its home there."""
        putting: asyncio.Task[None] | None = None
        flying: list[str] = []
        unput: Sequence[Any] | None = None
        after = part.after
        try:
            while True:
                await self._may_go_on(part)
                await self._redis()
                began, most = time.monotonic(), self._throttle.most
                claimed = await self._claim(part, after, most, flying)
                rows = unput = claimed[0] if claimed is not None else None
                flying = [row[0] for row in rows or ()]
                if putting is not None:
                    await putting
                    # Else a mover that dies now would have both batches put again
                    part.claimed = flying
                    await self._checkpoint(part)
                putting = asyncio.ensure_future(self._put(part, rows)) if rows else None
                unput = None
                if claimed is None or rows is None:
                    continue
                if claimed[1] is None:
                    break
                after = claimed[1]
                await self._throttle.rest(time.monotonic() - began, len(rows))
        finally:
            # What is claimed is put, whatever ends this: a claim alone would leave work to whoever reads the session
            if putting is not None:
                await self._ended(part, putting, unput)
        part.claimed = []

    async def _claim(
        self, part: Slice, after: str, most: int, flying: list[str]
    ) -> tuple[Sequence[Any], str | None] | None:
        """CLAIM with its checkpoint; None where it took too long, so that nothing was claimed."""
        await self._at("claim")
        target = self._target

        async def work(transaction: Transaction) -> tuple[Sequence[Any], str | None]:
            rows, last = await self._moves.claim(
                transaction, self._g, (after, part.upto), (target.share, target.ids), most
            )
            part.claimed = [*flying, *(row[0] for row in rows)]
            part.reason = self._throttle.reason
            await self._runs.note(transaction, self._run, part)
            return rows, last

        began = time.monotonic()
        try:
            rows, last = await self._store.database.change_together(work)
        except StoreUnavailableError as error:
            part.claimed = flying
            if error.reason in _TIMEOUTS and self._throttle.size > 10:
                self._throttle.refused()
                return None
            raise
        self._throttle.claimed(
            time.monotonic() - began, len(rows), sum([len(row[-1] or "") for row in rows]), more=last is not None
        )
        return rows, last

    async def _ended(self, part: Slice, putting: asyncio.Future[None], claimed: Sequence[Any] | None) -> None:
        """Wait for the puts under way. Where they have stopped the run, what was `claimed` meanwhile goes back."""
        try:
            await putting
        except StoppedError:
            if claimed:
                await self._give_back(part, claimed)
            raise
        finally:
            if not putting.cancelled() and not isinstance(putting.exception(), StoreUnavailableError):
                part.claimed = []

    async def _put(self, part: Slice, rows: Sequence[Any]) -> None:
        """PUT of claimed rows, call by call; what Redis has no room for, and what is broken, goes back."""
        waiting: list[Packed] = []
        calls: list[_Call] = []
        waits = flying = 0
        full: list[str] = []
        flawed: list[Broken] = []
        for columns in rows:
            judged = judge(columns)
            if isinstance(judged, Broken):
                flawed.append(judged)
                continue
            if waiting and (len(waiting) == TOGETHER or waits + judged.size > TOGETHER_BYTES):
                calls.append(await self._send(waiting))
                flying += waits
                waiting, waits = [], 0
                if flying > WINDOW:
                    full += await self._answers(part, calls)
                    calls, flying = [], 0
            waiting.append(judged)
            waits += judged.size
        if waiting:
            calls.append(await self._send(waiting))
        full += await self._answers(part, calls)
        # First, so that the next claim, which is under way, does not find them again
        for one in flawed:
            await self._keep_aside(part, one)
        if back := {*full, *(one.id for one in flawed)}:
            await self._give_back(part, [columns for columns in rows if columns[0] in back])
        self._bearable()
        if full:
            raise StoppedError(
                "Redis has no memory left for more: raise redis_maxmemory, or lower the percentage", resumable=False
            )

    async def _send(self, sessions: list[Packed]) -> _Call:
        """One call under way: Redis works on it while the next one is made up."""
        await self._at("put")
        redis = await self._redis()
        call = sessions, asyncio.ensure_future(redis.put_together(sessions))
        await asyncio.sleep(0)  # its task begins
        await asyncio.sleep(0)  # and what it has asked for leaves
        return call

    async def _answers(self, part: Slice, calls: Sequence[_Call]) -> list[str]:
        """Wait for calls; the ids for which Redis has no room."""
        full: list[str] = []
        known: list[str] = []
        trouble: BaseException | None = None
        for (sessions, _), answers in zip(
            calls, await asyncio.gather(*(call for _, call in calls), return_exceptions=True), strict=True
        ):
            if isinstance(answers, BaseException):
                if isinstance(answers, StoreUnavailableError) and answers.reason == OUT_OF_MEMORY:
                    full += [each.session_id for each in sessions]
                else:
                    trouble = answers
                continue
            outcomes = Counter(answers)
            self._count(part, "moved_in", outcomes[Put.WRITTEN])
            self._count(part, "again", outcomes[Put.NEWER])
            self._count(part, "expired", outcomes[Put.EXPIRED] + outcomes[Put.HELD])
            if outcomes[Put.WRITTEN] == len(sessions):
                continue
            for session, answer in zip(sessions, answers, strict=True):
                if answer is Put.NEWER:
                    known.append(session.session_id)
                elif answer is None:
                    await self._keep_aside(part, broken(session.session_id, _NO_SESSION, b""))
        if known:
            await self._finish_back(await self._redis(), known)
        if trouble is not None and not full:
            raise trouble
        return full

    async def _finish_back(self, redis: RedisGeneration, ids: list[str]) -> None:
        """APPLY what Redis has given back or ended: the second half of a move back that somebody did not live to do."""
        await self._at("apply")
        await self._apply_found(redis, ids)

    async def _apply_found(self, redis: RedisGeneration, ids: list[str]) -> int:
        """APPLY what Redis does not own any more; how many rows took it."""
        found = await asyncio.gather(*(redis.read(each) for each in ids))
        given = [missing.record for missing in found if isinstance(missing, Missing) and missing.record is not None]
        return sum(
            await asyncio.gather(*(self._store.steps.apply(each, self._g) for each in given if each.state != "active"))
        )

    async def _give_back(self, part: Slice, rows: Sequence[Any]) -> int:
        """MARK and APPLY: the legacy store owns them again. How many it took."""
        redis = await self._redis()
        await self._at("mark")
        sessions = [to_mark(columns, self._g).session for columns in rows]
        chunks = [sessions[start : start + TOGETHER] for start in range(0, len(sessions), TOGETHER)]
        answers = await asyncio.gather(*(redis.mark_together([pack_mark(each) for each in chunk]) for chunk in chunks))
        marked: dict[str, int] = {}
        others: list[str] = []
        for session, said in zip(sessions, itertools.chain.from_iterable(answers), strict=True):
            if said is None:
                continue
            if isinstance(said, CorruptSessionError):
                await self._keep_aside(part, broken(session.id, _NO_SESSION, b""))
                continue
            # What had the row's version had its data: nothing has to be copied. A marker says nothing of the data, and
            # that of a broken row must not be looked at
            if said.moved and (not said.filled or said.version == session.version + 1):
                marked[session.id] = said.version
            else:
                others.append(session.id)
        await self._at("apply")
        applied = 0
        if others:
            applied = await self._apply_found(redis, others)
        return applied + await self._moves.return_marked(self._g, marked)

    async def _back(self, part: Slice) -> None:
        """The move back of every row of the slice that has its home in the legacy store."""
        after = part.after
        while True:
            await self._may_go_on(part)
            control = self._store.control.current
            if control is None or control.mode != "mirror" or control.pin is None:
                return  # in hold nothing moves back, and without a server nothing has to
            began = time.monotonic()
            most = self._throttle.most
            rows = await self._moves.back(self._g, (after, part.upto), (self._target.share, self._target.ids), most)
            if rows:
                after = rows[-1][0]
                part.claimed = [row[0] for row in rows]
                await self._checkpoint(part)
                self._count(part, "moved_back", await self._give_back(part, rows))
                part.claimed = []
                self._throttle.claimed(time.monotonic() - began, len(rows), 0)
            if len(rows) < most:
                return
            await self._throttle.rest(time.monotonic() - began, len(rows))

    async def _keep_aside(self, part: Slice, one: Broken) -> None:
        await self._at("quarantine")
        if await self._quarantine.put(one, self._run.run_id):
            self._count(part, "quarantined")

    def _bearable(self) -> None:
        if self._broken_before + self._counts["quarantined"] > self._most_broken:
            raise StoppedError(
                f"more than {self._most_broken} rows cannot move as they are; `session-ops migrate quarantine list`"
                " says why, --most-broken raises the limit",
                resumable=False,
            )

    async def _redis(self) -> RedisGeneration:
        """Redis, asked just now, with a lease, in the generation of this run."""
        store = self._store
        if clock() - self._looked > self._lease / 3:
            began = time.monotonic()
            await store.steps.control()
            legacy = time.monotonic() - began
            latency = None
            self._same_generation()
            current = store.generations.current
            if current is not None:
                began = time.monotonic()
                store.control.heard_redis(await current.probe())
                latency = time.monotonic() - began
            self._looked = clock()
            await self._throttle.measured(latency, legacy)
        self._same_generation()
        redis = store.generations.current
        if redis is None or store.ownership.usable() is None:
            raise StoreUnavailableError("redis", "no lease: too slow, or its clock differs by more than 2 s")
        return redis

    def _same_generation(self) -> None:
        control = self._store.control.current
        if control is None or control.generation != self._g:
            raise StoppedError(
                "another generation has begun: every session is the legacy store's, and the same command moves again"
            )
        if control.closing is not None:
            raise StoppedError("a bump is under way; the same command goes on when it has ended")

    async def _may_go_on(self, part: Slice | None = None) -> None:
        """Between two batches: signs of life, and whatever says stop or wait."""
        while True:
            if self._asked is not None:
                raise StoppedError(self._asked)
            if self._stop_file is not None and self._stop_file.exists():
                raise StoppedError(f"{self._stop_file} is there")
            if clock() - self._kept > KEEP:
                await self._runs.keep(self._run)
                if part is not None:
                    await self._checkpoint(part)
                self._kept = clock()
            self._run = msgspec.structs.replace(await self._runs.read(self._run.run_id), token=self._run.token)
            self._throttle.rate, self._throttle.batch = self._run.rate, self._run.batch
            reason = "paused" if self._run.paused else self._throttle.reason or ""
            self._show(reason)
            await self._sampler.look(self._run.run_id, self._counts, self._throttle, reason or None)
            if not self._run.paused:
                return
            await asyncio.sleep(_AGAIN)

    def _show(self, reason: str) -> None:
        moved = self._counts["moved_in"] + self._counts["moved_back"]
        said = f"{moved:,} moved" + (f", {reason}" if reason else "")
        self._progress("rows", done=self._counts["scanned"], total=self._total, reason=said)

    def _count(self, part: Slice, name: str, by: int = 1) -> None:
        self._counts[name] += by
        setattr(part, name, getattr(part, name) + by)

    async def _at(self, name: str) -> None:
        if self._before is not None:
            await self._before(name)

    def _outcome(self, began: float, state: str, reason: str | None, *, resumable: bool) -> Outcome:
        return Outcome(
            run_id=self._run.run_id,
            state=state,
            reason=reason,
            resumable=resumable,
            seconds=round(time.monotonic() - began, 3),
            **{name: self._counts[name] for name in (*COUNTS, "unlinked")},
        )
