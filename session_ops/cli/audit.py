"""`session-ops migrate audit`: the lines that operators have left, and whether the chain holds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from session_ops.cli.frame import MISMATCH, as_json, fail, result, run, settings_or_exit
from session_ops.cli.migration_stores import Opened, kept_in_redis

if TYPE_CHECKING:
    from session_ops.migration.audit import Head
    from session_ops.settings import Settings


@click.command("audit")
@click.option("--last", type=click.IntRange(0), help="Show so many lines of the end; all are checked.")
@click.option("--anchor", metavar="NUMBER:HASH", help="A line as it was once printed; it must still be the same.")
@as_json
def audit(*, last: int | None, anchor: str | None, as_json: bool) -> None:
    """Show who has changed what and when, and check that no line was changed, removed or put in between.

    Each line has the hash of the one before; the head has the last one's. Keep the number and hash that this prints
    somewhere else: with --anchor they also show a chain that was computed anew by somebody with the database's rights.

    Without a legacy store any more: the lines that Redis keeps of the time until it was retired.

    Exit code 5: the chain is broken; the first broken line is named.

    \b
    Examples:
      session-ops migrate audit
      session-ops migrate audit --last 20 --json
      session-ops migrate audit --anchor 41:9d0f...
    """
    expected = _anchor(anchor) if anchor else None
    settings = settings_or_exit()
    shown = run((_audit if settings.legacy_database_url else _kept)(settings, last, expected), settings)
    result(shown, lambda: _lines(shown), as_json=as_json)
    if shown["broken"] is not None:
        fail(f"the audit is broken at line {shown['broken']}: {shown['reason']}", MISMATCH)


def _anchor(text: str) -> Head:
    from session_ops.migration.audit import Head  # noqa: PLC0415 - not needed for --help

    if not (found := re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)):
        raise click.BadParameter("NUMBER:HASH, as this command prints it", param_hint="--anchor")
    return Head(seq=int(found[1]), hash=found[2])


async def _audit(settings: Settings, last: int | None, anchor: Head | None) -> dict[str, Any]:
    async with Opened(settings) as opened:
        verdict = await opened.audit.check(anchor)
        after = 0 if last is None else max(0, verdict.head.seq - last)
        lines = [line.told() async for line in opened.audit.lines(after)] if last != 0 else []
        return {**msgspec.to_builtins(verdict), "shown": lines}


async def _kept(settings: Settings, last: int | None, anchor: Head | None) -> dict[str, Any]:
    """The audit as it was when the legacy store was retired: Redis keeps it."""
    kept = await kept_in_redis(settings)
    lines = kept.lines if last is None else kept.lines[len(kept.lines) - last :] if last else []
    return {**msgspec.to_builtins(kept.verdict(anchor)), "shown": [line.told() for line in lines]}


def _lines(shown: dict[str, Any]) -> str:
    lines = [_said(line) for line in shown["shown"]]
    state = "the chain holds" if shown["broken"] is None else f"BROKEN at line {shown['broken']}: {shown['reason']}"
    head = shown["head"]
    return "\n".join([*lines, f"-- {shown['lines']:,} lines, {state}", f"-- head {head['seq']}:{head['hash']}"])


def _said(line: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(line["at"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    detail = line["detail"]
    told = " ".join(f"{name}={_value(value)}" for name, value in detail.items()) if isinstance(detail, dict) else detail
    run_id = f" run {line['run']}" if line["run"] else ""
    return f"{line['seq']:>5}  {at}  {line['who']}  {line['what']}{run_id}  {told}".rstrip()


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
