"""`session-ops migrate finalize`, `mirror` and `archive`: the end of the migration, and the way back from it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from session_ops.cli import validate
from session_ops.cli.frame import as_json, execute, result, run
from session_ops.cli.migration_stores import with_legacy
from session_ops.cli.migration_work import Work
from session_ops.cli.progress import StatusLine
from session_ops.errors import PreconditionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.migration.archive import Archived
    from session_ops.migration.coming_back import ComingBack, Mirrored
    from session_ops.migration.coming_back import Outlook as WayBack
    from session_ops.migration.outbox import Outbox
    from session_ops.migration.retiring import Finalized, Outlook, Retirement, Terms
    from session_ops.migration.turning import Turning
    from session_ops.settings import Settings

_hosts = click.option("--host", "hosts", multiple=True, metavar="NAME",
                      help="A host of the inventory, which must serve; repeatable. No other one may then.")  # fmt: skip
_take_over = click.option("--take-over", is_flag=True, help="Go on with the work of an operator who is gone.")


@click.command("finalize")
@click.option("--run", "run_id", metavar="ID", help="The migration's last run, as `migrate status` gives it.")
@click.option("--after", "hours", type=click.FloatRange(0), default=24.0, show_default=True, metavar="HOURS",
              help="At 100 %, and with the mirror on, for so long.")  # fmt: skip
@_hosts
@click.option("--leave-broken", is_flag=True, help="Rows that cannot move stay behind, in the archive.")
@click.option("--accept-loss", is_flag=True,
              help="On one Redis without a replica: its last 2 s may be lost when it dies.")  # fmt: skip
@click.option("--abandon", is_flag=True, help="Give a finalize up that was interrupted, before it is final.")
@_take_over
@execute
@as_json
def finalize(
    *,
    run_id: str | None,
    hours: float,
    hosts: tuple[str, ...],
    leave_broken: bool,
    accept_loss: bool,
    abandon: bool,
    take_over: bool,
    execute: bool,
    as_json: bool,
) -> None:
    """End the mirror: Redis alone keeps the sessions, and the legacy store stays as it is.

    While the fleet serves: both stores are compared; no session moves back any more (hold); Redis gets every live
    session and the agent manager hears of every end (drain); then Redis acknowledges alone (final). Interrupted
    anywhere the same command goes on; before it is final --abandon goes back. Afterwards `migrate mirror` does.

    Exit codes: 3 something is in the way, and what to do; 4 another operator is at work; 5 the stores do not agree; 6
    and 7 a store is out of reach, run it again; 8 interrupted, run it again.

    \b
    Examples:
      session-ops migrate finalize --run 4c1d09b27e6a5f38          what would be done?
      session-ops migrate finalize --run 4c1d09b27e6a5f38 --accept-loss --execute
      session-ops migrate finalize --abandon --execute
    """
    from session_ops.migration.retiring import Terms  # noqa: PLC0415 - not needed for --help

    settings = with_legacy()
    terms = Terms(run_id=run_id, soaked=hours * 3600, hosts=hosts, leave_broken=leave_broken)
    if abandon:
        changed = run(_abandon(settings, take_over=take_over, execute=execute), settings)
        would = "is given up" if execute else "would be given up; add --execute"
        says = f"the hold {would}: sessions move as before" if changed else "nothing is held"
        result({"changed": changed}, lambda: says, as_json=as_json)
        return
    if not execute:
        shown = run(_look(settings, terms), settings)
        result(shown, lambda: _look_lines(shown), as_json=as_json)
        return
    status = StatusLine()
    try:
        done = run(_finalize(settings, status, terms, accept_loss=accept_loss, take_over=take_over), settings)
    finally:
        status.close()
    result(done, lambda: _final_lines(done), as_json=as_json)


@click.command("mirror")
@_hosts
@_take_over
@execute
@as_json
def mirror(*, hosts: tuple[str, ...], take_over: bool, execute: bool, as_json: bool) -> None:
    """Bring the mirror back, after a finalize: the legacy store is complete again, and a rollback possible.

    Every host has to have LEGACY_DATABASE_URL again and to report. While the fleet serves: Redis is pinned as it runs
    now; every write reaches the legacy store again; what Redis has is brought there; both are compared.

    Exit codes: as `migrate finalize`. Where Redis is restarted on the way, the same command begins again.

    \b
    Examples:
      session-ops migrate mirror
      session-ops migrate mirror --execute
    """
    settings = with_legacy()
    if not execute:
        shown = run(_look_back(settings, hosts), settings)
        result(shown, lambda: _back_lines(shown), as_json=as_json)
        return
    status = StatusLine()
    try:
        done = run(_mirror(settings, status, hosts, take_over=take_over), settings)
    finally:
        status.close()
    result(done, lambda: _mirrored_lines(done), as_json=as_json)


@click.command("archive")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", "checked", is_flag=True, help="Look at an archive: its checksum and its number of rows.")
@as_json
def archive(*, file: Path, checked: bool, as_json: bool) -> None:
    """Write the application's table, as it stood when it was retired, into FILE, and its checksum into FILE.sha256.

    Gzipped lines of JSON, a row each, with all columns of the table. Only the user who runs this may read it: the data
    of sessions is in it.

    \b
    Examples:
      session-ops migrate archive /var/backups/sessions.jsonl.gz
      session-ops migrate archive /var/backups/sessions.jsonl.gz --check
    """
    settings = with_legacy()
    status = StatusLine()
    try:
        done = run(_archive(settings, status, file, checked=checked), settings)
    finally:
        status.close()

    def lines() -> str:
        size = f"{done.rows:,} rows of {done.table}, {done.bytes:,} bytes"
        return f"{done.file}: {size}\nsha256  {done.sha256}\n-- generation {done.generation}, prefix {done.prefix}"

    result(done, lines, as_json=as_json)


COMMANDS = (finalize, mirror, archive)
"""What `session-ops migrate` has of these."""


def _turning(work: Work) -> Turning:
    from session_ops.migration.turning import Turning  # noqa: PLC0415 - not needed for --help

    return Turning(work.opened.store, lease=work.settings.session_lease, **work.progress)


def _outbox(work: Work) -> Callable[[], Outbox]:
    from session_ops.agents import load_agent_manager  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.outbox import Outbox  # noqa: PLC0415

    settings = work.settings
    manager = load_agent_manager(settings.session_agent_manager)
    return lambda: Outbox(
        work.opened.store.repository,
        manager,
        holder=f"{socket.gethostname()}:{os.getpid()}",
        batch=settings.session_cleanup_batch_size,
    )


async def retirement(work: Work) -> Retirement:
    """What finalizes, and gives that up."""
    from session_ops.migration.drain import Drain  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.retiring import Retirement  # noqa: PLC0415

    opened = work.opened
    await opened.target()
    return Retirement(
        opened.store,
        opened.runs,
        opened.stages,
        opened.audit,
        _turning(work),
        lease=work.settings.session_lease,
        mover=work.mover,
        validator=work.validator,
        drain=lambda: Drain(opened.store, work.moves, **work.progress),
        outbox=_outbox(work),
    )


async def _way_back(work: Work) -> ComingBack:
    from session_ops.migration.coming_back import ComingBack  # noqa: PLC0415 - not needed for --help

    opened = work.opened
    await opened.target()
    return ComingBack(
        opened.store,
        opened.stages,
        _turning(work),
        work.moves,
        lease=work.settings.session_lease,
        partitions=work.settings.session_partitions,
        validator=work.validator,
        outbox=_outbox(work),
        **work.progress,
    )


async def _look(settings: Settings, terms: Terms) -> Outlook:
    async with Work(settings) as work:
        return await (await retirement(work)).look(terms)


async def _finalize(
    settings: Settings, status: StatusLine, terms: Terms, *, accept_loss: bool, take_over: bool
) -> Finalized:
    async with Work(settings, status) as work:
        retiring = await retirement(work)
        outlook = await retiring.look(terms)
        if outlook.changed and not outlook.replicas and not accept_loss:
            raise PreconditionError(f"{outlook.risks[0]}: say that this is meant, with --accept-loss")
        done = await retiring.run(terms, take_over=take_over)
        if done.validated is not None:
            await validate.note_of(settings, done.validated)
        return done


async def _abandon(settings: Settings, *, take_over: bool, execute: bool) -> bool:
    async with Work(settings) as work:
        if execute:
            return await (await retirement(work)).abandon(take_over=take_over)
        return (await work.opened.store.control_store.read()).mode == "hold"


async def _look_back(settings: Settings, hosts: tuple[str, ...]) -> WayBack:
    async with Work(settings) as work:
        return await (await _way_back(work)).look(hosts=hosts)


async def _mirror(settings: Settings, status: StatusLine, hosts: tuple[str, ...], *, take_over: bool) -> Mirrored:
    async with Work(settings, status) as work:
        done = await (await _way_back(work)).run(hosts=hosts, take_over=take_over)
        if done.validated is not None:
            await validate.note_of(settings, done.validated)
        return done


async def _archive(settings: Settings, status: StatusLine, file: Path, *, checked: bool) -> Archived:
    from session_ops.migration.archive import Archive, check  # noqa: PLC0415 - not needed for --help

    if checked:
        return check(file)
    async with Work(settings, status) as work:
        return await Archive(work.opened.store, work.database, **work.progress).write(file)


def _look_lines(shown: Outlook) -> str:
    lines = [f"run          {shown.run_id}", f"redis        generation {shown.generation}, mode {shown.mode}"]
    lines += [f"will         {number}. {each}" for number, each in enumerate(shown.will, 1)]
    lines += [f"then         {each}" for each in shown.risks]
    lines.append("-- nothing was changed; add --execute" if shown.changed else "-- it is final already")
    return "\n".join(lines)


def _final_lines(done: Finalized) -> str:
    if not done.changed:
        return f"-- it is final already: prefix {done.prefix}"
    lines = [validate.lines_of(done.validated)] if done.validated is not None else []
    lines.append(f"moved        {done.moved:,} sessions to Redis, {done.told:,} ends told to the agent manager")
    if done.drained is not None:
        stay = f", {len(done.drained.left)} stay behind" if done.drained.left else ""
        lines.append(f"drained      {done.drained.rows:,} rows, pass {done.drained.passes} found nothing to do{stay}")
    lines.append(
        f"-- final in {done.seconds:.1f} s: Redis alone keeps the sessions; the hosts' SESSION_GENERATION_PREFIX is"
        f" {done.prefix}"
    )
    return "\n".join(lines)


def _back_lines(shown: WayBack) -> str:
    lines = [f"redis        generation {shown.generation}, prefix {shown.prefix}, its key says {shown.key}"]
    lines += [f"will         {number}. {each}" for number, each in enumerate(shown.will, 1)]
    lines.append("-- nothing was changed; add --execute" if shown.changed else "-- the mirror is on; nothing to do")
    return "\n".join(lines)


def _mirrored_lines(done: Mirrored) -> str:
    if not done.changed:
        return "-- the mirror is on; nothing to do"
    lines = [validate.lines_of(done.validated)] if done.validated is not None else []
    lines.append(f"brought      {done.born:,} sessions that had no row, {done.brought:,} that went on or ended")
    if done.refilled:
        lines.append(f"filled in    {done.refilled:,} that Redis had lost")
    return "\n".join([*lines, f"-- the mirror is on after {done.seconds:.1f} s: a rollback is possible"])
