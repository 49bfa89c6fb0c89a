"""The stage of the migration: where every session has its home, and the steps that led there.

The stage row says what is wanted; it is changed before the first host's flag is, so that a host that comes up new in
the middle of a step, and the mover, want the same. Behind it stands a row per step, begun and then reached or stopped,
so that the next operator knows whether the fleet is where the stage row says, or on the way there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import sqlalchemy

from session_ops.errors import HeldError, PreconditionError, StageConflictError, StoreUnavailableError
from session_ops.migration.audit import Audit
from session_ops.migration.run_records import Target
from session_ops.migration.runs import is_dead
from session_ops.stores.legacy_errors import as_unprepared
from session_ops.stores.legacy_prepared import Statement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_database import Database, Transaction

Result = TypeVar("Result")

CANARY: Final = "canary"
"""The step that moves single ids; every other is called by its percentage."""

ROLLBACK: Final = "rollback"
"""The way back, from any step: every session has its home in the legacy store again."""

FINAL: Final = "final"
"""The stage in which the legacy store is complete no more."""

BULK: Final = "bulk"
SOAK: Final = "soak"
"""The stages with many sessions in Redis, and with all of them."""

FINALIZE: Final = "final"
MIRROR: Final = "mirror"
"""The steps that end the mirror, and that bring it back: they change no session's home."""

BEGUN: Final = "begun"
REACHED: Final = "reached"
STOPPED: Final = "stopped"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step: `canary` or a percentage. `facts`: what was measured, JSON. Times in ms, the database's."""

    number: int
    step: str
    state: str
    reason: str | None
    began_at: int
    began_by: str
    ended_at: int | None
    run_id: str | None
    facts: str


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """The stage row, and the steps so far, the last one first."""

    stage: str
    target: Target
    changed_at: int | None
    changed_by: str | None
    steps: tuple[Step, ...]


def wanted(step: str, before: Target, canaries: Sequence[str]) -> Target:
    """What a step makes of the stage row. Raises `PreconditionError` and `StageConflictError`."""
    ids = tuple(sorted({*before.canaries, *canaries}))
    if step == CANARY:
        if not ids:
            raise PreconditionError("a step of canaries needs their ids: `migrate stage begin canary --id ID`")
        return Target(use_redis=True, percent=before.share, canaries=ids)
    percent = int(step)
    if percent < before.share:
        raise StageConflictError(
            f"the fleet is at {before.share} %, and a stage does not go down to {percent} %:"
            " the way back is the rollback (playbooks/rollback.yml)"
        )
    return Target(use_redis=True, percent=percent, canaries=ids)


def named(target: Target) -> str:
    """The stage row's word for a target on its way: single ids and 1 %, then in bulk."""
    return "canary" if target.share <= 1 else "bulk"


class Stages:
    """The statements. `who` is this operator, USER@HOST."""

    def __init__(self, database: Database, schema: ControlSchema, who: str) -> None:
        self._database = database
        self._who = who
        self._audit = Audit(database, schema, who)
        driver = database.engine.dialect
        quote = driver.identifier_preparer.format_table
        tables = {name: quote(getattr(schema, name)) for name in ("stage", "steps", "lock")}
        now = str(database.dialect.now().compile(dialect=driver))
        locking = "FOR UPDATE" if database.dialect.name == "postgresql" else ""

        def sql(text: str) -> Statement:
            made = sqlalchemy.text(text.format(**tables, now=now, locking=locking))
            return Statement(lambda: made, driver)

        columns = ", ".join(Step.__struct_fields__)
        row = "stage, use_redis, percent, canary_ids, changed_at, changed_by"
        self._stage = sql(f"SELECT {row} FROM {{stage}}")
        self._stage_now = sql(f"SELECT {row} FROM {{stage}} {{locking}}")
        self._lock = sql("SELECT holder, purpose, until, {now} AS now FROM {lock} {locking}")
        self._steps = sql(f"SELECT {columns} FROM {{steps}} ORDER BY number DESC LIMIT 50")
        self._begin = sql(
            "INSERT INTO {steps} (number, step, state, began_at, began_by, run_id)"
            f" VALUES (:number, :step, '{BEGUN}', {{now}}, :who, :run)"
        )
        self._again = sql(
            f"UPDATE {{steps}} SET state = '{BEGUN}', reason = NULL, ended_at = NULL, began_by = :who"
            " WHERE number = :number"
        )
        self._set = sql(
            "UPDATE {stage} SET stage = :stage, use_redis = TRUE, percent = :percent, canary_ids = :canaries,"
            " changed_at = {now}, changed_by = :who"
        )
        self._end = sql(
            "UPDATE {steps} SET state = :state, reason = :reason, run_id = COALESCE(:run, run_id), facts = :facts,"
            " ended_at = {now} WHERE number = :number"
        )
        self._home = sql(
            "UPDATE {stage} SET stage = 'prepared', use_redis = FALSE, percent = 0, canary_ids = '[]',"
            " changed_at = {now}, changed_by = :who"
        )
        self._become = sql("UPDATE {stage} SET stage = :stage, changed_at = {now}, changed_by = :who")

    async def read(self) -> Stage:
        """Where the migration is. Raises `PreconditionError` where the table is not prepared."""
        try:
            rows = await self._database.read(self._stage)
            return _as_stage(rows, await self._database.read(self._steps))
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error

    async def look(self, step: str, canaries: Sequence[str] = (), *, take_over: bool = False) -> tuple[Stage, Target]:
        """The stage before a step and what it wants. Raises as `begin`, and changes nothing."""

        async def work(transaction: Transaction) -> tuple[Stage, Target]:
            return await self._look(transaction, step, canaries, take_over=take_over)

        return await self._together(work)

    async def begin(self, step: str, canaries: Sequence[str] = (), *, take_over: bool = False) -> bool:
        """Begin a step, or go on with it; the stage row wants it from here on. False: it is reached already.

        Raises `HeldError` while another operator is at work, `StageConflictError` for a percentage that goes down.
        """

        async def work(transaction: Transaction) -> bool:
            before, target = await self._look(transaction, step, canaries, take_over=take_over)
            if not due(before, step, target):
                return False
            last = before.steps[0] if before.steps else None
            await self._take(transaction, last, step)
            if target != before.target or before.stage != named(target):
                await transaction.change(
                    self._set, stage=named(target), percent=target.percent, who=self._who,
                    canaries=msgspec.json.encode(target.canaries).decode(),
                )  # fmt: skip
            await self._audit.append(
                transaction, "stage begun", step=step, before=before.target.text, now=target.text,
                taken_over=last.began_by if last is not None and take_over else None,
            )  # fmt: skip
            return True

        return await self._together(work)

    async def roll_back(self, *, take_over: bool = False) -> bool:
        """Begin the way back, or go on with it; the stage row wants every session in the legacy store from here on, so
        that no host begins with its flag on. False: it is wanted already. Raises as `begin`.
        """

        async def work(transaction: Transaction) -> bool:
            [lock] = await transaction.change(self._lock)
            before = await self._read(transaction)
            last = before.steps[0] if before.steps else None
            state = None if last is None else last.state if last.step == ROLLBACK else STOPPED
            if not before.target.to_redis and state in (None, REACHED):
                return False
            if not take_over:
                self._need_free(lock, before)
            if last is not None and state == BEGUN and not before.target.to_redis and last.began_by == self._who:
                return False
            await self._take(transaction, last, ROLLBACK)
            await transaction.change(self._home, who=self._who)
            await self._audit.append(
                transaction, "stage begun", step=ROLLBACK, before=before.target.text,
                taken_over=last.began_by if last is not None and take_over else None,
            )  # fmt: skip
            return True

        return await self._together(work)

    async def end(
        self, step: str, state: str, *, reason: str | None = None, run_id: str | None = None, facts: str = "{}"
    ) -> bool:
        """The step that was begun is `reached` or `stopped`; False: it is so already, with this reason.

        Raises `StageConflictError` where another step was begun last.
        """

        async def work(transaction: Transaction) -> bool:
            before = await self._read(transaction)
            if not _ends(before, step, state, reason):
                return False
            last = before.steps[0]
            await transaction.change(self._end, number=last.number, state=state, reason=reason, run=run_id, facts=facts)
            if state == REACHED and before.target.share == 100:
                await transaction.change(self._become, stage=SOAK, who=self._who)
            await self._audit.append(
                transaction, f"stage {state}", step=step, reason=reason, run=run_id, facts=msgspec.Raw(facts.encode())
            )
            return True

        return await self._together(work)

    async def begin_turn(self, step: str, *, run_id: str | None = None, take_over: bool = False) -> None:
        """Begin FINALIZE or MIRROR, or go on with it: the stage becomes another only at its end. `run_id`: the run that
        the operator has named. Raises `HeldError`.
        """

        async def work(transaction: Transaction) -> None:
            [lock] = await transaction.change(self._lock)
            before = await self._read(transaction)
            if not take_over:
                self._need_free(lock, before)
            last = before.steps[0] if before.steps else None
            await self._take(transaction, last, step, run_id)
            await self._audit.append(
                transaction, "stage begun", step=step, run=run_id, before=before.target.text,
                taken_over=last.began_by if last is not None and take_over else None,
            )  # fmt: skip

        await self._together(work)

    async def end_turn(self, step: str, stage: str, *, facts: str = "{}") -> None:
        """FINALIZE or MIRROR is reached, and the stage is `stage`. Raises `StageConflictError`."""

        async def work(transaction: Transaction) -> None:
            before = await self._read(transaction)
            if not _ends(before, step, REACHED, None):
                return
            number = before.steps[0].number
            await transaction.change(self._end, number=number, state=REACHED, reason=None, run=None, facts=facts)
            await transaction.change(self._become, stage=stage, who=self._who)
            told = msgspec.Raw(facts.encode())
            await self._audit.append(transaction, "stage reached", step=step, stage=stage, facts=told)

        await self._together(work)

    async def need_free(self, *, take_over: bool = False) -> None:
        """Raise `HeldError` while another operator is at work, unless `take_over`."""

        async def work(transaction: Transaction) -> None:
            [lock] = await transaction.change(self._lock)
            if not take_over:
                self._need_free(lock, await self._read(transaction))

        await self._together(work)

    async def would_end(self, step: str, state: str, reason: str | None = None) -> bool:
        """What `end` would answer. Raises as it does, and changes nothing."""
        return _ends(await self.read(), step, state, reason)

    async def _look(
        self, transaction: Transaction, step: str, canaries: Sequence[str], *, take_over: bool
    ) -> tuple[Stage, Target]:
        [lock] = await transaction.change(self._lock)
        before = await self._read(transaction)
        if before.stage == FINAL:
            raise StageConflictError("the migration is final: mirror again first (`migrate mirror`)")
        target = wanted(step, before.target, canaries)
        if due(before, step, target) and not take_over:
            held = lock.holder is not None and (lock.until or 0) > lock.now
            _refuse_others(before, f"{lock.holder} ({lock.purpose})" if held else None, self._who)
        return before, target

    def _need_free(self, lock: Any, before: Stage) -> None:
        held = lock.holder is not None and (lock.until or 0) > lock.now and not is_dead(lock.holder)
        _refuse_others(before, f"{lock.holder} ({lock.purpose})" if held else None, self._who)

    async def _take(self, transaction: Transaction, last: Step | None, step: str, run_id: str | None = None) -> None:
        """The step is begun, or gone on with where it was begun last and not reached."""
        if last is not None and last.step == step and last.state != REACHED:
            await transaction.change(self._again, number=last.number, who=self._who)
        else:
            number = last.number + 1 if last is not None else 1
            await transaction.change(self._begin, number=number, step=step, who=self._who, run=run_id)

    async def _read(self, transaction: Transaction) -> Stage:
        rows = await transaction.change(self._stage_now)
        return _as_stage(rows, await transaction.change(self._steps))

    async def _together(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        try:
            return await self._database.change_together(work)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error


def due(before: Stage, step: str, target: Target) -> bool:
    """Whether the step is still to be taken: it is not the one that was reached last, or wants something else."""
    last = before.steps[0] if before.steps else None
    return last is None or (last.step, last.state) != (step, REACHED) or target != before.target


def _ends(before: Stage, step: str, state: str, reason: str | None) -> bool:
    """Whether there is something to note about the end of the step that was begun last."""
    last = before.steps[0] if before.steps else None
    if last is None or last.step != step:
        raise StageConflictError(f"the last step is {last.step if last else 'none'}, not {step}")
    return last.state != REACHED and (last.state, last.reason) != (state, reason)


def _refuse_others(stage: Stage, holder: str | None, me: str) -> None:
    """Raise `HeldError` while somebody else moves, or is in the middle of a step. One person is known by the name
    before the @, from whichever host.
    """
    if holder is not None:
        raise HeldError(f"{holder} is at work: wait for the end, or --take-over if it is gone")
    last = stage.steps[0] if stage.steps else None
    if last is not None and last.state == BEGUN and last.began_by.partition("@")[0] != me.partition("@")[0]:
        raise HeldError(f"{last.began_by} is in the middle of step {last.step}: ask, or --take-over if it was left")


def _as_stage(rows: Sequence[Any], steps: Sequence[Any]) -> Stage:
    if not rows or rows[0].stage is None:
        raise PreconditionError("the table has no stage: `session-ops migrate prepare --execute` first")
    [row] = rows
    canaries = msgspec.json.decode(row.canary_ids, type=list[str])
    target = Target(use_redis=bool(row.use_redis), percent=row.percent, canaries=tuple(sorted(set(canaries))))
    return Stage(
        stage=row.stage,
        target=target,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        steps=tuple(Step(**each._asdict()) for each in steps),
    )
