"""`session-ops migrate report`: the migration's story, for a program or as a page to read and to keep."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from session_ops.cli.frame import MISMATCH, PRECONDITION, as_json, fail, result, run, settings_or_exit
from session_ops.cli.migration_stores import Opened, kept_in_redis

if TYPE_CHECKING:
    from session_ops.migration.report import Report
    from session_ops.settings import Settings


@click.command("report")
@click.option("--html", "file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE",
              help="Write one HTML page there; -: to stdout.")  # fmt: skip
@as_json
def report(*, file: Path | None, as_json: bool) -> None:
    """Tell the story of the migration: steps, runs with their progress, rate, latency and what held them up, rows that
    were put aside, validations, and who did what, with the state of the audit's chain.

    Reads the control tables and nothing else: from any host, while a run goes on and afterwards, also without Redis.
    Without a legacy store any more: what Redis keeps of the time until it was retired.
    The page is one file that fetches nothing and needs no script. Ids of sessions are cut.

    Exit code 5: the report is made, and the audit's chain is broken.

    \b
    Examples:
      session-ops migrate report
      session-ops migrate report --json
      session-ops migrate report --html /root/migration.html
    """
    if as_json and file == Path("-"):
        raise click.UsageError("one thing goes to stdout: --json or --html -")
    settings = settings_or_exit()
    made = run(_report(settings), settings)
    if file is not None:
        from session_ops.migration.report_page import html  # noqa: PLC0415 - not needed for --help

        page = html(made)
        if file == Path("-"):
            click.echo(page, nl=False)
        else:
            _write(file, page)
    if file != Path("-"):
        result(made, lambda: _lines(made, file), as_json=as_json)
    if not made.intact:
        fail(f"the audit is broken at line {made.audit['broken']}: {made.audit['reason']}", MISMATCH)


async def _report(settings: Settings) -> Report:
    from session_ops.migration.report import report as read  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.report import report_of_kept  # noqa: PLC0415

    if not settings.legacy_database_url:
        return report_of_kept(await kept_in_redis(settings))
    async with Opened(settings) as opened:
        return await read(opened.store, opened.runs, opened.stages, opened.audit)


def _write(file: Path, page: str) -> None:
    """Put the page in the place of an older one, whole, and readable for its owner alone."""
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(page)
        Path(name).replace(file)
    except OSError as error:
        fail(f"--html: cannot write {file}: {error.strerror}", PRECONDITION)


def _lines(made: Report, file: Path | None) -> str:
    lines = [
        f"stage        {made.stage}: {made.target}",
        f"at work      {made.holder or 'nobody'}",
    ]
    for step in reversed(made.steps):
        reason = f": {step['reason']}" if step["reason"] else ""
        lines.append(f"step         {step['step']} {step['state']}, begun by {step['began_by']}{reason}")
    if not made.runs:
        lines.append("run          none yet: nothing has been moved by the mover")
    for told in reversed(made.runs):
        one = told.run
        lines.append(
            f"run          {one['run_id']} {one['state']}: {one['moved_in']:,} to Redis, {one['moved_back']:,} back,"
            f" {one['quarantined']:,} put aside, {one['seconds']:,.1f} s, {one['per_second']:,}/s"
        )
        lines += [f"  gave way   {each.seconds:,.1f} s: {each.last}" for each in told.throttling]
    lines += [f"put aside    {count:,} {reason}" for reason, count in made.quarantine.items()]
    for one in made.validations[:1]:
        detail = one["detail"] if isinstance(one["detail"], dict) else {}
        found = sum((detail.get("mismatches") or {}).values())
        lines.append(f"validation   by {one['who']}: {detail.get('rows')} rows, {found} mismatches")
    state = "the chain holds" if made.intact else "the chain is BROKEN"
    lines.append(f"audit        {made.audit['lines']:,} lines, {state}")
    if file is not None:
        lines.append(f"-- written: {file}")
    return "\n".join(lines)
