"""`session-ops migrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_ops.cli import audit, migration_views, mover, report, retire, stage, validate, watch
from session_ops.cli.frame import UNFINISHED, USAGE, as_json, execute, fail, operator, result, run, settings_or_exit
from session_ops.cli.progress import StatusLine

if TYPE_CHECKING:
    from session_ops.migration.prepare import Prepared
    from session_ops.settings import Settings

DEADLINE = 10.0
"""Seconds that a connection may take; the statements themselves have limits of their own."""


@click.group("migrate")
def command() -> None:
    """Move an application's sessions into Redis, and back.

    \b
    Examples:
      session-ops migrate prepare              what would be done to the application's table?
      session-ops migrate prepare --execute
      session-ops migrate plan                 what is there, and what will it take?
      session-ops migrate run --execute        every session to its home
      session-ops migrate validate             do both stores say the same?
      session-ops migrate finalize             Redis alone, and what would be given up
      session-ops migrate mirror               the way back from there
      session-ops migrate status
    """


for _one in (
    *mover.COMMANDS,
    validate.validate,
    *migration_views.COMMANDS,
    stage.stage,
    watch.watch,
    report.report,
    audit.audit,
    *retire.COMMANDS,
):
    command.add_command(_one)


@command.command()
@execute
@click.option("--undo", is_flag=True, help="Take back what prepare has made.")
@click.option("--with-audit", is_flag=True, help="With --undo: the audit goes as well; it is kept otherwise.")
@as_json
def prepare(*, execute: bool, undo: bool, with_audit: bool, as_json: bool) -> None:
    """Make the application's table (LEGACY_TABLE, LEGACY_COLUMNS) ready for two stores, while it is in use.

    Prints the SQL in the order in which it runs, and runs none of it without --execute. Adds what the table lacks of a
    session, indexes and control tables, and last the guard: triggers that refuse what a release does that does not know
    session ownership. Until then the application's own code goes on. Repeatable; interrupted anywhere, it is gone on
    with by running it again.

    --undo removes what prepare has made, but for the audit. It is refused while Redis is on or owns a session. Start
    the application's own code when it has ended.

    Exit codes: 3 the table cannot be prepared, and what to do about it; 4 another one is at it; 6 the database is out
    of reach; 8 interrupted, or a lock stayed out of reach: run it again.

    \b
    Examples:
      session-ops migrate prepare
      session-ops migrate prepare --execute
      session-ops migrate prepare --undo --execute
    """
    if with_audit and not undo:
        raise click.UsageError("--with-audit goes with --undo")
    settings = settings_or_exit()
    if not settings.legacy_database_url:
        fail("LEGACY_DATABASE_URL: not set; it names the database of the application's sessions", USAGE)
    status = StatusLine()
    try:
        done = run(_prepare(settings, status, execute=execute, undo=undo, with_audit=with_audit), settings)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on", UNFINISHED)
    finally:
        status.close()
    result(done, lambda: _lines(done, undo=undo), as_json=as_json)


async def _prepare(settings: Settings, status: StatusLine, *, execute: bool, undo: bool, with_audit: bool) -> Prepared:
    from session_ops.cli.generation import begin_generation  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.prepare import Preparation  # noqa: PLC0415
    from session_ops.stores.legacy_database import Database  # noqa: PLC0415

    async def bump_first() -> None:
        await begin_generation(settings, to_redis=True)

    database = Database(settings.legacy_database_url, deadline=DEADLINE)
    try:
        preparation = Preparation(
            database,
            settings.legacy_table,
            settings.legacy_columns,
            who=operator(settings),
            flag=settings.flag,
            bump=bump_first,
            progress=status,
        )
        if undo:
            return await preparation.undo(execute=execute, with_audit=with_audit)
        return await preparation.run(execute=execute)
    finally:
        await database.close()


def _lines(done: Prepared, *, undo: bool) -> str:
    lines = []
    if done.survey is not None:
        counted = done.survey
        lines.append(
            f"-- {done.table}: {counted.rows:,} rows; {counted.expired:,} expired, {counted.without_expiry:,} without"
            f" an expiry, {counted.without_user:,} without a user, {counted.bad_data:,} whose data is no JSON object,"
            f" {counted.odd_ids:,} whose id the service would not take"
        )
    for number, step in enumerate(done.steps, 1):
        again = ", page after page" if step.how in ("fill", "finish", "empty") else ""
        lines.append(f"\n-- {number}. {step.name}: {step.why}{again}")
        lines += [f"{statement};" for statement in step.sql]
    if lines:
        lines.append("")
    state = "is not prepared" if undo else "is prepared"
    if not done.steps:
        lines.append(f"-- {done.table} {state}; nothing is left to do")
    elif done.executed:
        lines.append(f"-- done: {done.table} {state}")
    else:
        lines.append("-- nothing was changed; add --execute")
    if done.bump:
        lines.append(
            "-- at the end the first generation of Redis would be opened, as `session-ops generation bump` does"
        )
    return "\n".join(lines)
