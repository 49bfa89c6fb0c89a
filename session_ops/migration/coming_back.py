"""`migrate mirror`: the legacy store is complete again, after the mode was final (docs/ownership.md, section 9).

The hosts have it again by then, and go by its control row. Redis is pinned as it runs now; hold, in which every write
is mirrored again; everything that Redis has is brought to the legacy store; mirror. Interrupted anywhere the same
command goes on, and begins again where Redis was restarted meanwhile.

Redis is not scanned: every active session stands in the index of all, and every session that had a row when the mode
became final is found by that row, its tombstone too. What was born and ended in mode final needs no row: no copy of it
is on its way.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from session_ops.errors import (
    CorruptSessionError,
    PreconditionError,
    StoreUnavailableError,
    UnfinishedError,
)
from session_ops.generation import UNUSABLE
from session_ops.migration.comparison import seen
from session_ops.migration.gates import hosts_flaw
from session_ops.migration.record_ids import Place, RecordIds
from session_ops.migration.settling import Looker
from session_ops.migration.stages import FINAL, MIRROR, SOAK
from session_ops.migration.turning import persistence, persistence_flaw
from session_ops.migration.work import Progress, silent
from session_ops.records import Row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from session_ops.generation import RedisGeneration
    from session_ops.migration.comparison import Seen
    from session_ops.migration.outbox import Outbox
    from session_ops.migration.stages import Stages
    from session_ops.migration.turning import Turning
    from session_ops.migration.validated import Validated
    from session_ops.migration.validation import Validator
    from session_ops.owned_access import OwnedStore
    from session_ops.records import Record
    from session_ops.stores.control_store import ControlRow
    from session_ops.stores.legacy_moves import Moves

PAGE: Final = 500


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done. `restarted`: whether Redis was since the mode became final."""

    changed: bool
    generation: int
    prefix: str | None
    key: str | None
    restarted: bool
    will: list[str]


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. `born`: sessions that the legacy store did not know; `brought`: those that had changed or ended;
    `refilled`: those that Redis had lost.
    """

    changed: bool
    generation: int
    born: int
    brought: int
    refilled: int
    told: int
    seconds: float
    validated: Validated | None = None


class ComingBack:
    """Brings one legacy store back. `lease` in seconds. Raises `StoreUnavailableError`."""

    def __init__(
        self,
        store: OwnedStore,
        stages: Stages,
        turning: Turning,
        moves: Moves,
        *,
        lease: float,
        partitions: int,
        validator: Callable[[], Validator],
        outbox: Callable[[], Outbox],
        progress: Progress = silent,
    ) -> None:
        self._store = store
        self._stages = stages
        self._turning = turning
        self._moves = moves
        self._lease = lease
        self._partitions = partitions
        self._validator = validator
        self._outbox = outbox
        self._progress = progress
        self._looker: Looker

    async def look(self, *, hosts: Collection[str] = ()) -> Outlook:
        """What would be done. Changes nothing. Raises `PreconditionError` with everything that is in the way."""
        row = await self._turning.look()
        stage = await self._stages.read()
        said = await persistence(self._store.connection)
        pin = said.get("master_replid")
        key = await self._turning.key_now(row) if row.prefix is not None else None
        if row.mode == "mirror" and stage.stage != FINAL:
            return Outlook(
                changed=False, generation=row.generation, prefix=row.prefix, key=key, restarted=False, will=[]
            )
        reports = await self._store.control_store.hosts(self._lease)
        reasons = [
            mode_flaw(row, stage.stage),
            redis_flaw(row, said, key),
            hosts_flaw(reports, hosts, msgspec.structs.replace(row, redis="off")),
            persistence_flaw(said),
        ]
        if any(reasons):
            raise PreconditionError(*(reason for reason in reasons if reason is not None))
        lost = " (it was restarted: what it has lost is filled in)" if pin != row.pin else ""
        will = [
            f"Redis is pinned as it runs now{lost}",
            "hold: every write reaches the legacy store again before it is acknowledged",
            "what Redis has is brought to the legacy store, and the agent manager hears of every end",
            "mirror: a rollback is possible again",
        ]
        return Outlook(
            changed=True, generation=row.generation, prefix=row.prefix, key=key, restarted=pin != row.pin, will=will
        )

    async def run(self, *, hosts: Collection[str] = (), take_over: bool = False) -> Mirrored:
        """Bring the mirror back. Raises as `look`, `HeldError` and `UnfinishedError`."""
        began = time.monotonic()
        outlook = await self.look(hosts=hosts)
        row = await self._turning.look()
        if not outlook.changed:
            return Mirrored(
                changed=False, generation=row.generation, born=0, brought=0, refilled=0, told=0, seconds=0.0
            )
        await self._stages.begin_turn(MIRROR, take_over=take_over)
        try:
            refilled, born, brought, told = await self._back(row)
        except StoreUnavailableError as error:
            if error.reason in UNUSABLE:
                raise UnfinishedError(
                    f"Redis was restarted or replaced on the way ({error.reason}): the same command begins again"
                ) from error
            raise
        validated = await self._turning.compare(self._validator(), "the mirror is on; then run the same again")
        facts = {"generation": row.generation, "born": born, "brought": brought, "refilled": refilled}
        await self._stages.end_turn(MIRROR, SOAK, facts=msgspec.json.encode(facts).decode())
        return Mirrored(
            changed=True, generation=row.generation, born=born, brought=brought, refilled=refilled, told=told,
            seconds=round(time.monotonic() - began, 3), validated=validated,
        )  # fmt: skip

    async def _back(self, row: ControlRow) -> tuple[int, int, int, int]:
        """From whatever state an earlier try has left to mode mirror: refilled, born, brought and told."""
        refilled = born = brought = told = 0
        if row.mode == "mirror":  # only the comparison was missing
            return refilled, born, brought, told
        said = await persistence(self._store.connection)
        pin, key = said["master_replid"], await self._turning.key_now(row)
        if key != "mirror" or pin != row.pin:
            refilled = await self._pinned(row, pin)
            await self._turning.key(row, "mirror" if key == "mirror" else "final", "hold")
            async with self._outbox() as outbox:
                told = await outbox.empty()
                born, brought = await self._backfill(row)
                await self._turning.key(row, "hold", "mirror")
                await self._turning.row(row, "final", "mirror")
        else:
            await self._turning.row(row, "final", "mirror")
        await self._turning.hosts(row, "mirror")
        return refilled, born, brought, told

    async def _pinned(self, row: ControlRow, pin: str) -> int:
        """Every live host goes by the server as it runs now; how many sessions it had lost."""
        refilled = 0
        if pin != row.pin:
            refilled = await self._refill(row, pin)
            await self._turning.at("pin")
            if not await self._store.control_store.pin(row.generation, pin):
                raise UnfinishedError("the control row is not final any more: run the same again")
        await self._turning.hosts(row, "final", pin)
        return refilled

    async def _refill(self, row: ControlRow, pin: str) -> int:
        """What Redis has lost of the sessions that have a row; what it has still answers NEWER."""
        control = msgspec.structs.replace(await self._store.steps.control(), pin=pin)
        redis = self._store.redis_at(self._store.connection, control)
        refilled = 0
        async for rows in self._rows("refill"):
            now = await self._store.steps.now()
            theirs = [
                each for each in rows
                if each.in_redis(row.generation) and each.session is not None and (each.expires_at or 0) > now
            ]  # fmt: skip
            found = await asyncio.gather(*(redis.put(_as_row(each)) for each in theirs))
            refilled += sum(answer.name == "WRITTEN" for answer in found)
        return refilled

    async def _backfill(self, row: ControlRow) -> tuple[int, int]:
        """The legacy store gets everything that Redis has: sessions that it did not know, and those that went on."""
        redis = await self._turning.redis(row)
        self._looker = Looker(self._moves, lambda: redis, generation=row.generation, after=0)
        born = brought = 0
        ids = RecordIds(self._store.connection, redis.prefix, self._partitions)
        async for page, _ in ids.walk(Place(), PAGE):
            await self._same(row, redis)
            known = await self._moves.known(page)
            absent = await self._records([each for each in page if each not in known])
            await asyncio.gather(*(self._store.steps.apply_absent(record, row.generation) for record in absent))
            born += len(absent)
            self._progress("backfill", done=born + brought)
        async for rows in self._rows("backfill"):
            await self._same(row, redis)
            theirs = {each.id: each.version for each in rows if each.in_redis(row.generation)}
            newer = [
                record for record in await self._records(list(theirs))
                if record.session.version > theirs[record.session.id]
            ]  # fmt: skip
            await asyncio.gather(*(self._store.steps.apply(record, row.generation) for record in newer))
            brought += len(newer)
        return born, brought

    async def _records(self, ids: Sequence[str]) -> list[Record]:
        """The active and the deleted records among these."""
        found = await self._looker.records(ids)
        for session_id, each in zip(ids, found, strict=True):
            if isinstance(each, CorruptSessionError):
                raise PreconditionError(
                    f"{session_id!r} in Redis is no session: end it (`session-ops sessions delete`), then run the same"
                    " again; the mode is still final"
                )
        return [
            each for each in found if each is not None and not isinstance(each, Exception) and each.state != "moved"
        ]

    async def _rows(self, step: str) -> AsyncIterator[list[Seen]]:
        """Every row, by pages."""
        after, done = "", 0
        while page := await self._moves.page(after, PAGE):
            yield [seen(each) for each in page]
            after, done = page[-1][0], done + len(page)
            self._progress(step, done=done)

    async def _same(self, row: ControlRow, redis: RedisGeneration) -> None:
        """It is still the same generation, on the same server."""
        control = await self._store.steps.control()
        await redis.probe()
        if (control.generation, control.mode) != (row.generation, "final"):
            raise UnfinishedError(f"generation {control.generation} is in mode {control.mode}: run the same again")


def mode_flaw(row: ControlRow, stage: str) -> str | None:
    """Whether there is a way back from here."""
    if row.mode == "hold":
        return "the mode is hold, on the way to final: `session-ops migrate finalize --abandon --execute` goes back"
    if row.prefix is None or row.pin is None:
        return "the control row names no Redis: this legacy store is not the one of a migration that became final"
    if row.mode != "final" and stage != FINAL:
        return f"the mode is {row.mode}: the mirror is on"
    return None


def redis_flaw(row: ControlRow, said: dict[str, str], key: str | None) -> str | None:
    """Whether the Redis of the settings is the one that has the sessions."""
    if said.get("role") != "master":
        return "the Redis of the settings is a replica: set REDIS_HOST to the primary"
    if key is None:
        return (
            f"this Redis does not have generation {row.prefix}: it has lost its data, or is another one. Restore its "
            "last backup first; what was written since the migration became final is nowhere else"
        )
    return None


def _as_row(row: Seen) -> Row:
    return Row(session=row.session, owner="redis", generation=row.generation, deleted=False, ended=False)  # type: ignore[arg-type]
