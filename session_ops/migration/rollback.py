"""`session-ops rollback`: every session is the legacy store's again, whatever Redis is doing.

By moves, while Redis answers: the stage says legacy, the mover brings every session home, and both stores are compared.
By force, where Redis is lost: one bump to no server (docs/ownership.md, section 8), which takes the same time for one
session and for ten million. Either may be repeated, and by another operator: what is done already is not done again.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops.bump import BumpRefusedError, bump
from session_ops.errors import HeldError, PreconditionError, StoreUnavailableError, UnfinishedError
from session_ops.migration.run_records import Target
from session_ops.migration.stages import REACHED, ROLLBACK
from session_ops.stores.legacy_errors import NOT_PREPARED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.migration.audit import Audit
    from session_ops.migration.mover import Mover
    from session_ops.migration.runs import RunStore
    from session_ops.migration.stages import Stages
    from session_ops.migration.validated import Validated
    from session_ops.migration.validation import Validator
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.control_store import ControlRow
    from session_ops.stores.legacy_moves import Moves

HOME: Final = Target(use_redis=False, percent=0)

TRIES: Final = 3
"""Bumps that are tried where others, of hosts that have lost Redis too, come first."""

_AGAIN: Final = 0.2


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand. `hosts_on`: live hosts whose flag is on. `in_redis`: sessions that Redis owns; None: not
    counted. `answers`: why Redis does not serve the generation in force; None: it does, or there is none.
    """

    target: str
    generation: int
    mode: str
    redis: str
    served: bool
    answers: str | None
    holder: str | None
    hosts_on: list[str]
    in_redis: int | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback would do, and what it cannot. `state` None: the table is not prepared, there is nothing to do."""

    changed: bool
    state: State | None
    will: list[str]
    cannot: list[str]


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollback has done. `generation`: that of a bump it has made."""

    changed: bool
    stage_changed: bool
    moved: int
    generation: int | None
    seconds: float
    validated: Validated | None = None


class Rollback:
    """A rollback. `moves` reads the table with time enough; `lease` in seconds. Raises `StoreUnavailableError`."""

    def __init__(
        self,
        store: OwnedStore,
        runs: RunStore,
        moves: Moves,
        stages: Stages,
        audit: Audit,
        *,
        lease: float,
        address: str,
        abandon: Callable[[], Awaitable[bool]],
        partitions: int = 1,
    ) -> None:
        """`address` (HOST:PORT) of Redis is written beside a bump; `abandon` gives up a finalize that was not final."""
        self._store = store
        self._runs = runs
        self._moves = moves
        self._lease = lease
        self._stages = stages
        self._audit = audit
        self._address = address
        self._abandon = abandon
        self._partitions = partitions

    async def is_prepared(self) -> bool:
        """Whether there is a migration at all; without one every session is the application's own."""
        try:
            await self._runs.target()
        except PreconditionError:
            return False
        except StoreUnavailableError as error:
            if error.reason != NOT_PREPARED:
                raise
            return False
        return True

    async def look(self, *, count: bool) -> State:
        """How things stand; `count` reads the whole table."""
        target = await self._runs.target()
        control = await self._store.control_store.read()
        await self._store.steps.control()
        lock = await self._runs.at_work()
        redis = await self._store.describe_redis() if control.pin is not None else None
        counted = await self._moves.counts(control.generation, 0, ()) if count else None
        return State(
            target=target.text,
            generation=control.generation,
            mode=control.mode,
            redis=control.redis,
            served=control.pin is not None,
            answers=redis.reason if redis is not None else None,
            holder=lock.holder if lock is not None else None,
            hosts_on=await self._hosts_on(),
            in_redis=counted.to_legacy if counted is not None else None,
        )

    async def plan(self, *, redis_lost: bool, redis_off: bool) -> Plan:
        """What would be done from here. Where Redis is lost the table is not counted: that would take its time."""
        if not await self.is_prepared():
            return Plan(changed=False, state=None, will=[], cannot=[])
        state = await self.look(count=not redis_lost)
        ends = redis_lost or redis_off
        bumps = ends and (state.redis != "off" or state.served)
        will = []
        if state.target != HOME.text:
            will.append(f"the stage says: {HOME.text}; a host that is rolled out later begins with its flag off")
        if redis_lost and bumps:
            will.append(
                f"generation {state.generation} ends without Redis, {self._lease + 1:g} s after it is announced: every"
                " session is the legacy store's at once, however many there are"
            )
        if state.mode == "hold" and not redis_lost:
            will.append("the hold is given up, in which nothing moves back: the migration was about to be finalized")
        if state.in_redis:
            will.append(f"{state.in_redis:,} sessions go home by the mover, a few as they are touched")
        if not redis_lost:
            will.append("both stores are compared")
        if bumps and not redis_lost:
            will.append(f"then generation {state.generation} ends and Redis is off: a migration begins with a bump")
        cannot = [
            "turn off the flags of the hosts: `session-ops flag set --off --execute --reload` on each, or"
            " playbooks/rollback.yml" + (f"; on are {', '.join(state.hosts_on)}" if state.hosts_on else ""),
            "take back what users did meanwhile: every change that was acknowledged stays",
        ]
        if redis_lost:
            cannot.append("keep a change that Redis has and no host has acknowledged: its caller was told 503")
        cannot.append("go on with old code: `-e release=` of playbooks/rollback.yml does")
        return Plan(
            changed=bool(state.target != HOME.text or bumps or state.in_redis), state=state, will=will, cannot=cannot
        )

    async def begin(self, *, redis_lost: bool = False, take_over: bool = False) -> bool:
        """The stage says legacy; whether that was new. Refused where a rollback cannot do its work.

        Raises `PreconditionError`, `HeldError`.
        """
        control = await self._store.control_store.read()
        if control.mode == "final":
            raise PreconditionError(
                "the migration is final: the legacy store is not complete any more; bring the mirror back first"
                " (`-e migrate_to=mirror`)"
            )
        lock = await self._runs.at_work()
        if lock is not None and not take_over:
            raise HeldError(f"{lock.holder} is at work ({lock.purpose}); --take-over, if it is to end there")
        changed = await self._stages.roll_back(take_over=take_over)
        if control.mode == "hold" and not redis_lost:
            changed = await self._abandon() or changed  # nothing moves back in hold; a bump ends it as well
        return changed

    async def home(
        self,
        mover: Callable[[], Mover],
        validator: Callable[[], Validator],
        *,
        take_over: bool = False,
        redis_off: bool = False,
    ) -> RolledBack:
        """Every session is moved home, and the stores are compared. Every host's flag has to be off.

        Raises also `UnfinishedError`: the same call goes on.
        """
        began = time.monotonic()
        await self._need_flags_off()
        await self._need_redis()
        changed = await self.begin(take_over=take_over)
        moved = 0
        # Whoever is at work has the target from before in hand: a run of our own ends that
        if await self._in_redis() or await self._runs.at_work() is not None:
            done = await mover().run(take_over=take_over)
            moved = done.moved_back
            if done.state != "done":
                raise UnfinishedError(f"stopped: {done.reason}; the same command goes on")
        if left := await self._in_redis():
            raise UnfinishedError(
                f"{left:,} sessions are still in Redis: is a host's flag on? The same command goes on"
            )
        validated = await validator().run("full")
        if validated.state != "done":
            raise UnfinishedError(f"stopped while it compared: {validated.reason}; the same command goes on")
        generation = await self._bump() if redis_off and validated.agree else None
        if validated.agree:
            await self._reached(moved=moved)
        return RolledBack(
            changed=changed or moved > 0 or generation is not None, stage_changed=changed, moved=moved,
            generation=generation, seconds=round(time.monotonic() - began, 3), validated=validated,
        )  # fmt: skip

    async def force(self, *, take_over: bool = False) -> RolledBack:
        """The forced rollback: a bump to no server. Constant time; Redis is not asked."""
        began = time.monotonic()
        changed = await self.begin(redis_lost=True, take_over=take_over)
        generation = await self._bump()
        await self._reached(redis_lost=True)
        return RolledBack(
            changed=changed or generation is not None, stage_changed=changed, moved=0, generation=generation,
            seconds=round(time.monotonic() - began, 3),
        )  # fmt: skip

    async def _bump(self) -> int | None:
        """A bump to no server; the new generation, None where Redis is off already."""
        for _ in range(TRIES):
            seen: ControlRow = await self._store.control_store.read()
            if seen.redis == "off" and seen.pin is None:
                return None
            try:
                await bump(
                    self._store.control_store,
                    seen,
                    target=None,
                    address=self._address,
                    partitions=self._partitions,
                    lease=self._lease,
                )
            except BumpRefusedError:
                continue
            await self._audit.add("bump", generation=seen.generation + 1, prefix=None)
            return seen.generation + 1
        raise HeldError("others begin generations as well; `session-ops generation show` says more, run this again")

    async def _reached(self, **facts: Any) -> None:
        """Note that the sessions are home, where a step back was begun."""
        steps = (await self._stages.read()).steps
        if steps and steps[0].step == ROLLBACK:
            await self._stages.end(ROLLBACK, REACHED, facts=msgspec.json.encode(facts).decode())

    async def _need_flags_off(self) -> None:
        """Hosts say within a third of a lease what their flag is."""
        until = time.monotonic() + 2 * self._lease
        while on := await self._hosts_on():
            if time.monotonic() > until:
                raise PreconditionError(
                    f"the flag is on at {', '.join(on)}: `session-ops flag set --off --execute --reload` there, or"
                    " playbooks/rollback.yml; until then sessions would go to Redis again"
                )
            await asyncio.sleep(_AGAIN)

    async def _need_redis(self) -> None:
        state = await self.look(count=True)
        if state.in_redis and state.answers is not None:
            raise StoreUnavailableError(
                "redis", f"{state.answers}, and {state.in_redis:,} sessions are there: --redis-lost does without it"
            )

    async def _hosts_on(self) -> list[str]:
        hosts = await self._store.control_store.hosts(self._lease)
        return sorted({host.host for host in hosts if host.live and host.use_redis})

    async def _in_redis(self) -> int:
        control = await self._store.control_store.read()
        row: Any = await self._moves.counts(control.generation, 0, ())
        return int(row.to_legacy)
