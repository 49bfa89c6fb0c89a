"""`migrate prepare`: makes an application's own table ready for two stores, online, and takes it back with `undo`.

Everything is planned from what the database shows, so it can be run again at any time: what is done is not done again,
and what was interrupted is gone on with. Each step either is one transaction or may be repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from session_ops.errors import PreconditionError
from session_ops.migration.audit import Audit
from session_ops.migration.fitness import MILLISECONDS, refusals
from session_ops.migration.inspection import inspect
from session_ops.migration.names import Names
from session_ops.migration.pages import empty, fill, finish
from session_ops.migration.plan import Step, plan
from session_ops.migration.survey import SECONDS, Survey, survey
from session_ops.migration.undo import undoable, undoing
from session_ops.migration.work import PATIENCE, Progress, Work, at_work, silent
from session_ops.stores.legacy_columns import named_columns, read_columns

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Awaitable, Callable

    from session_ops.migration.facts import Facts
    from session_ops.settings import Flag
    from session_ops.stores.legacy_database import Database


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What prepare has done, or would do. `bump`: whether the first generation is still to be opened.

    `empty`: the table has no row, or is not there yet. `stage` with its flag is the stage row's from before; None: not
    prepared.
    """

    table: str
    changed: bool
    executed: bool
    steps: list[Step]
    bump: bool = False
    empty: bool = False
    stage: str | None = None
    use_redis: bool = False
    percent: int = 0
    survey: Survey | None = None


class Preparation:
    """Prepares one application's table, and undoes it."""

    def __init__(
        self,
        database: Database,
        table: str,
        columns: str,
        *,
        who: str,
        flag: Flag | None = None,
        bump: Callable[[], Awaitable[object]] | None = None,
        progress: Progress = silent,
        patience: float = PATIENCE,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`table` and `columns` as LEGACY_TABLE and LEGACY_COLUMNS give them; `who` is for the stage and the audit.

        `flag` goes into the stage row of an empty table, which has nothing to migrate; where there are rows the flag
        is off until a migration raises it. `bump` opens the first generation of Redis; without one the caller does.
        `patience` in seconds: how long a change waits for its lock. `before` is awaited before every statement.
        """
        self._database = database
        self._names = Names(table, read_columns(columns), database.engine.dialect)
        self._named = named_columns(columns)
        self._who = who
        self._audit = Audit(database, self._names.control, who)
        self._flag = flag
        self._bump = bump
        self._progress = progress
        self._patience = patience
        self._before = before

    async def run(self, *, execute: bool) -> Prepared:
        """Prepare the table; without `execute` only say how.

        Raises `PreconditionError` with everything that is in the way, `HeldError`, `UnfinishedError`,
        `StoreUnavailableError`, and what the bump raises: the table is prepared by then, and the same call goes on.
        """
        async with self._at_work() as work:
            facts = await inspect(work, self._names)
            if refused := refusals(facts, self._names, self._named):
                raise PreconditionError(*refused)
            empty = not await self._has_rows(work, facts)
            steps = plan(facts, self._names, self._who, self._flag if empty else None)
            counted = await self._counted(work, facts) if steps else None
            if execute:
                await self._take(work, facts, steps, counted.rows if counted else None)
        bump = facts.generation == 0 and facts.redis == "off"
        if execute and bump and self._bump is not None:
            self._progress("bump")
            await self._bump()
            return self._prepared(facts, steps, execute, counted, changed=True, empty=empty)
        return self._prepared(facts, steps, execute, counted, changed=bool(steps), bump=bump, empty=empty)

    async def undo(self, *, execute: bool, with_audit: bool = False) -> Prepared:
        """Take back what prepare has made; without `execute` only say how. What the application brought stays, and so
        does the audit, unless `with_audit`.

        Raises as `run` does: `PreconditionError` while Redis is on, or owns a session.
        """
        async with self._at_work() as work:
            facts = await inspect(work, self._names)
            await undoable(work, facts, self._names)
            has_rows = await self._has_rows(work, facts)
            steps = undoing(facts, self._names, has_rows=has_rows, with_audit=with_audit)
            if execute and steps and self._has_audit(facts):
                await self._audit.add("undo begun", table=self._names.table, with_audit=with_audit)
            if execute:
                for step in steps:
                    await self._do(work, step, None, self._still(work) if step is steps[0] else None)
            if execute and steps and self._has_audit(facts) and not with_audit:
                await self._audit.add("undone", table=self._names.table, steps=[step.name for step in steps])
        return self._prepared(facts, steps, execute, None, changed=bool(steps))

    async def _take(self, work: Work, facts: Facts, steps: list[Step], rows: int | None) -> None:
        """Take the steps. The audit tells of the first as soon as there is one, and of all of them at the end."""
        told = False
        for step in steps:
            if not told and self._has_audit(facts):
                await self._audit.add("prepare begun", table=self._names.table)
                told = True
            await self._do(work, step, rows)
            if not told and step.name == "beside":
                await self._audit.add("prepare begun", table=self._names.table)
                told = True
        if steps:
            await self._audit.add("prepared", table=self._names.table, steps=[step.name for step in steps])

    def _has_audit(self, facts: Facts) -> bool:
        control = self._names.control
        return control.audit.name in facts.beside and control.audit_head.name in facts.single

    def _at_work(self) -> contextlib.AbstractAsyncContextManager[Work]:
        return at_work(self._database, patience=self._patience, progress=self._progress, before=self._before)

    def _still(self, work: Work) -> Callable[[], Awaitable[None]]:
        async def check() -> None:
            await undoable(work, await inspect(work, self._names), self._names)

        return check

    async def _do(
        self, work: Work, step: Step, rows: int | None, check: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._progress(step.name)
        if step.how == "fill":
            await fill(work, step, rows)
        elif step.how == "finish":
            await finish(work, step)
        elif step.how == "empty":
            await empty(work, step)
        elif step.how == "alone":
            await work.alone(step.sql)
        else:
            await work.together(step.name, step.sql, check)

    async def _counted(self, work: Work, facts: Facts) -> Survey | None:
        if not facts.exists:
            return None
        self._progress("survey")
        counted = await survey(work, facts, self._names)
        if counted.latest_expiry is not None and counted.latest_expiry < SECONDS:
            name = self._names.columns.expires_at
            raise PreconditionError(
                f"expires_at: column {name} seems to hold seconds (the greatest is {counted.latest_expiry});"
                f" {MILLISECONDS}"
            )
        return counted

    async def _has_rows(self, work: Work, facts: Facts) -> bool:
        return facts.exists and bool(await work.rows(f"SELECT 1 FROM {self._names.sessions} LIMIT 1"))

    def _prepared(
        self,
        facts: Facts,
        steps: list[Step],
        execute: bool,
        counted: Survey | None,
        *,
        changed: bool,
        bump: bool = False,
        empty: bool = False,
    ) -> Prepared:
        return Prepared(
            table=self._names.sessions,
            changed=changed,
            executed=execute,
            steps=steps,
            bump=bump,
            empty=empty,
            stage=facts.stage,
            use_redis=facts.use_redis,
            percent=facts.percent,
            survey=counted,
        )
