"""One owner per session: the procedure of docs/ownership.md (section 5), step by step under the names it has there.

At any moment one store owns a session and only the owner makes its next version. The flag decides nothing but the
direction in which sessions move. An operation looks where the session is, moves it at most once towards its home, and
works where it is then; whatever an interrupted move has left is finished by whoever comes next.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from session_ops.allowance import Allowance
from session_ops.errors import (
    OutcomeUnknownError,
    OverloadedError,
    RevisionConflictError,
    SessionTooLargeError,
    StoreUnavailableError,
)
from session_ops.limits import is_id
from session_ops.records import Session
from session_ops.stores.found import Missing, Put
from session_ops.stores.legacy_rows import bucket_of
from session_ops.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.control import HostControl
    from session_ops.operations import Changed, Operation, RedisChanges
    from session_ops.records import Control, Record, Row
    from session_ops.settings import Flag
    from session_ops.stores.legacy_steps import LegacySteps

    class RedisSteps(RedisChanges, Protocol):
        """One generation of Redis: the steps of section 3. What no pinned server with the generation key answers
        raises `StoreUnavailableError`.
        """

        generation: int

        def read(self, session_id: str) -> Awaitable[Session | Missing]:
            """GET: the session where its record is active, else what is there instead."""
            ...

        async def put(self, row: Row) -> Put:
            """PUT: the move to Redis."""
            ...

        async def mark(self, row: Row) -> Record | None:
            """MARK: the move back; None where the generation key is not `mirror`."""
            ...

        async def sweep(self, limit: int) -> int:
            """Take up to `limit` ended sessions out of Redis' indexes, telling nobody; how many there were."""
            ...


Home = Literal["redis", "legacy"]

ROUNDS: Final = 8
"""Another round is needed only because another operation has changed the session meanwhile."""

_PAUSE: Final = 0.005
"""Seconds before the third round at most; doubled from round to round."""

_LATE: Final = 3
"""Answers of Redis in one operation that may arrive when the lease has run out, before Redis counts as too slow to be
asked: a host that stood still gets one, and a link slower than the lease must not keep a caller for all the rounds."""

MOVES_PER_SECOND: Final = 5.0
"""Moves that one process begins on behalf of a caller. Beyond that an operation works where its session is, which is
always allowed. A flip of the flag asks for the moves of all sessions, and each is two commits that its caller waits
for: few enough have to that it is not seen in the p99. Whoever wants them all moved runs the mover."""

_random = random.SystemRandom()


class Ownership:
    """Runs operations on sessions that either store may own.

    `redis` answers the steps of the generation in force, None where the control row names no server. `flag` answers the
    flag in force on this host. `moved` is told the direction of each move that was begun here, of which there are no
    more than `moves_per_second`.
    """

    def __init__(
        self,
        legacy: LegacySteps,
        control: HostControl,
        redis: Callable[[], RedisSteps | None],
        flag: Callable[[], Flag],
        *,
        moved: Callable[[Home], None] = lambda _: None,
        failed: Callable[[StoreUnavailableError, int], None] = lambda _error, _generation: None,
        moves_per_second: float = MOVES_PER_SECOND,
    ) -> None:
        self._legacy = legacy
        self._control = control
        self._redis = redis
        self._flag = flag
        self._moved = moved
        self._failed = failed
        self._turns = Turns()
        self._moves = Allowance(moves_per_second)

    def home(self, session_id: str) -> Home:
        """The store that the flag wants a session in."""
        flag = self._flag()
        if not flag.use_redis_sessions:
            return "legacy"
        percent = flag.session_redis_percent
        if percent >= 100:
            return "redis"
        control = self._control.current
        if control is not None and session_id in control.canaries:
            return "redis"
        return "redis" if percent > 0 and bucket_of(session_id) < percent else "legacy"

    def usable(self, dead: int | None = None) -> RedisSteps | None:
        """Redis, where it may be asked: a server is pinned and the lease is valid, or the mode is known to be final.

        `dead`: a generation that has given an unusable answer to this operation.
        """
        redis = self._redis()
        if redis is None or redis.generation == dead:
            return None
        generation = redis.generation
        return redis if self._control.leased(generation) or self._control.final(generation) else None

    async def get(self, session_id: str) -> Session | None:
        """The live session, or None. One round trip where Redis owns it and is its home."""
        if not is_id(session_id):
            return None
        redis, leased = self._redis(), self._control.leased
        if redis is None or not leased(redis.generation) or self.home(session_id) != "redis":
            return await self._run(_Look(session_id))
        try:
            found = await redis.read(session_id)
        except OverloadedError:
            raise
        except StoreUnavailableError as error:
            self._failed(error, redis.generation)
            return await self._run(_Look(session_id), dead=redis.generation, trouble=error)
        if type(found) is Session and leased(redis.generation):
            return found
        return await self._run(_Look(session_id))

    async def change(self, operation: Operation) -> Session | None:
        """Run an operation; the session after it, None where no live session has the id.

        Two round trips where Redis owns the session and is its home (one and a share of the mirror's statement).
        """
        control = self._control
        if control.trouble is not None and (control.current is None or control.current.mode != "final"):
            # Nothing could be mirrored: refuse it before Redis is changed
            raise StoreUnavailableError("legacy", control.trouble.reason)
        return await self._run(operation)

    async def _run(
        self, operation: Operation, *, dead: int | None = None, trouble: StoreUnavailableError | None = None
    ) -> Session | None:
        state = _State(operation, self.home(operation.id), dead, trouble)
        if await self._round(state):
            return state.answer
        async with self._turns.at(operation.id):
            for number in range(1, ROUNDS):
                if await self._round(state):
                    return state.answer
                await asyncio.sleep(_random.uniform(0, _PAUSE * 2**number))
        raise StoreUnavailableError("legacy", "collision")

    async def _round(self, s: _State) -> bool:
        """One round; whether the operation has ended."""
        asked: RedisSteps | None = None
        record: Record | None = None
        redis = self.usable(s.dead)
        if s.where == "redis" and redis is not None:
            found = await self._ask(s, redis)
            if s.ended:
                return True
            if found is not None:
                verdict = await self._verdict(found, redis.generation)
                if verdict is not None:
                    return verdict
                asked, record = redis, found.record
        look = await self._legacy.get(s.operation.id)
        row, control = look.row, look.control
        if control.mode != "mirror" and asked is None:
            # The row alone is not to be trusted: work in Redis
            self._need_redis(s)
            s.where = "redis"
            return False
        if row is None or row.deleted:
            return True
        if row.owner == "legacy" or row.generation < control.generation:
            return await self._legacy_owns(s, row, control)
        return await self._redis_owns(s, row, control, asked, record)

    async def _verdict(self, found: Missing, generation: int) -> bool | None:
        """What Redis alone can say of a session that it has no live record of: it has ended (True), look again (False),
        or nothing (None).
        """
        record = found.record
        if record is not None and record.state == "deleted" and found.mode != "final":
            return await self._finish_delete(record, generation)
        return True if found.mode == "final" or (found.active and found.expired) else None

    async def _ask(self, s: _State, redis: RedisSteps) -> Missing | None:
        """Make the change in Redis, or learn why not; None where the answer does not count, or the change is made."""
        try:
            done = await s.operation.in_redis(redis)
            if done is not None:
                # Where nothing had to change it is a read, which no step in the legacy store fences
                counts = done.written or done.record.state == "deleted" or self._counts(redis, done.mode)
                s.ended = counts and await self._acknowledge(s, done, redis.generation)
                return None
            found = await redis.read(s.operation.id)
        except (RevisionConflictError, SessionTooLargeError) as error:
            if self._counts(redis, error.mode):
                raise
            self._came_late(s, redis)
            return None
        except (OverloadedError, OutcomeUnknownError):
            raise
        except StoreUnavailableError as error:
            self._failed(error, redis.generation)
            self._unusable(s, redis, error)
            return None
        mode = found.mode if isinstance(found, Missing) else None
        if not self._counts(redis, mode):
            self._came_late(s, redis)
            return None
        if isinstance(found, Missing) and not (found.active and not found.expired):
            return found
        if isinstance(s.operation, _Look):
            s.answer = found if isinstance(found, Session) else found.session
            s.ended = True
        # Else it came between the refusal and this look: the next round has it
        return None

    async def _acknowledge(self, s: _State, done: Changed, generation: int) -> bool:
        """Bring what Redis has made to the legacy store; whether the operation has ended with it."""
        record = done.record
        if record.state == "deleted":
            if done.mode != "final" and not await self._finish_delete(record, generation):
                return False
            if done.written:
                s.answer = record.session
            return True
        if done.written and done.mode != "final" and not await self._mirror(record, generation):
            return True
        s.answer = record.session
        return True

    async def _mirror(self, record: Record, generation: int) -> bool:
        """L.APPLY of a write; False where its session has ended meanwhile.

        Whatever fails here leaves the outcome unknown: Redis has the write.
        """
        try:
            for _ in range(ROUNDS):
                if await self._legacy.apply(record, generation):
                    return True
                look = await self._legacy.get(record.session.id)
                row = look.row
                if row is None:
                    if look.control.mode != "final":
                        return False
                    if await self._legacy.apply_absent(record, generation):
                        return True
                    continue
                if row.generation != generation:
                    break
                mine, its = record.session, row.session
                if its.version > mine.version or (its.version == mine.version and its.revision == mine.revision):
                    return True  # a later mirror or a move took it along
        except StoreUnavailableError as error:
            raise OutcomeUnknownError(error.store, error.reason) from error
        raise OutcomeUnknownError("legacy", "generation over")

    async def _finish_delete(self, tombstone: Record, generation: int) -> bool:
        """L.APPLY of a tombstone; False where the row is alive after all: it belongs to a newer generation."""
        try:
            if await self._legacy.apply(tombstone, generation):
                return True
            look = await self._legacy.get(tombstone.session.id)
            if look.row is None and look.control.mode == "final":
                return await self._legacy.apply_absent(tombstone, generation)
        except StoreUnavailableError as error:
            raise OutcomeUnknownError(error.store, error.reason) from error
        return look.row is None or look.row.deleted

    async def _legacy_owns(self, s: _State, row: Row, control: Control) -> bool:
        if row.ended:
            return True
        redis = self._at(control, s)
        if s.where == "redis" and not s.moved and redis is not None and self._moves.take():
            s.moved = True
            await self._give_away(s, redis, row)
            return False
        s.answer = await s.operation.in_legacy(self._legacy, row, control.generation)
        return s.answer is not None

    async def _redis_owns(
        self, s: _State, row: Row, control: Control, asked: RedisSteps | None, record: Record | None
    ) -> bool:
        redis = self._at(control, s)
        if redis is None:
            self._need_redis(s)
            return False
        if asked is None:
            if s.moved or s.where == "redis" or not self._moves.take():
                s.where, s.moved = "redis", True  # work where the session is
            else:
                s.moved = True
                await self._give_back(s, redis, row)
            return False
        if asked.generation == row.generation:
            if record is not None and record.session.version > row.session.version:
                await self._legacy.apply(record, asked.generation)  # Redis gave it back: finish that
            elif await self._put(s, redis, row) == Put.EXPIRED:  # the row was given away: finish that
                again = await self._legacy.get(row.session.id)  # a single look is not enough
                return again.row is None or again.row.session.version == row.session.version
        return False

    async def _give_away(self, s: _State, redis: RedisSteps, row: Row) -> None:
        claimed = await self._legacy.claim(row.session.id, redis.generation)
        if claimed is not None:
            self._moved("redis")
            await self._put(s, redis, claimed)

    async def _put(self, s: _State, redis: RedisSteps, row: Row) -> Put:
        try:
            return await redis.put(row)
        except StoreUnavailableError as error:
            if error.reason == "out of memory":
                # Redis has no room for it: give it back, and work in the legacy store
                s.where = "legacy"
                await self._give_back(s, redis, row)
            else:
                self._failed(error, redis.generation)
                self._unusable(s, redis, error)
            return Put.REFUSED

    async def _give_back(self, s: _State, redis: RedisSteps, row: Row) -> None:
        try:
            marked = await redis.mark(row)
        except StoreUnavailableError as error:
            self._failed(error, redis.generation)
            self._unusable(s, redis, error)
            return
        if marked is not None:
            await self._legacy.apply(marked, redis.generation)
            self._moved("legacy")

    def _at(self, control: Control, s: _State) -> RedisSteps | None:
        """Redis, where it may be asked and is the generation that the row was looked at with."""
        redis = self.usable(s.dead)
        return redis if redis is not None and redis.generation == control.generation else None

    def _counts(self, redis: RedisSteps, mode: str | None) -> bool:
        """Whether an answer that has just arrived counts: within the lease, or where Redis itself says final. What this
        host knows of the mode may be long over.
        """
        return mode == "final" or self._control.leased(redis.generation)

    def _came_late(self, s: _State, redis: RedisSteps) -> None:
        """An answer is there when the lease has run out: Redis has not been asked, and may be asked again."""
        s.late += 1
        if s.late == _LATE:
            self._unusable(s, redis, StoreUnavailableError("redis", "no lease"))

    def _unusable(self, s: _State, redis: RedisSteps, error: StoreUnavailableError) -> None:
        s.dead = redis.generation
        s.trouble = error

    def _need_redis(self, s: _State) -> None:
        """Raise unless Redis may be asked."""
        if self.usable(s.dead) is None:
            reason = s.trouble.reason if s.trouble is not None else "no lease"
            raise StoreUnavailableError("redis", reason)


class _State:
    """How far one operation has come."""

    __slots__ = ("answer", "dead", "ended", "late", "moved", "operation", "trouble", "where")

    def __init__(
        self, operation: Operation, where: Home, dead: int | None, trouble: StoreUnavailableError | None
    ) -> None:
        self.operation = operation
        self.where = where
        self.moved = False
        self.dead = dead
        self.late = 0
        self.trouble = trouble
        self.ended = False
        self.answer: Session | None = None


class _Look:
    """A read, as an operation that changes nothing."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id

    async def in_redis(self, redis: Any) -> None:
        """Nothing to change: look."""
        del redis

    async def in_legacy(self, legacy: LegacySteps, row: Row, g: int) -> Session | None:
        """The session as it was seen."""
        del legacy, g
        return row.session
