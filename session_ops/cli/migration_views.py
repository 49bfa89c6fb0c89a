"""`session-ops migrate plan|status|quarantine`: what there is, how far it is, and what cannot move."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from session_ops.cli.frame import as_json, execute, result, run, settings_or_exit
from session_ops.cli.migration_stores import Opened, kept_in_redis, with_legacy
from session_ops.cli.progress import StatusLine
from session_ops.cli.stage import steps_of

if TYPE_CHECKING:
    from session_ops.migration.kept import Kept
    from session_ops.migration.outlook import Plan
    from session_ops.settings import Settings


@click.command("plan")
@click.option("--percent", type=click.IntRange(0, 100), help="As if so many had their home in Redis; else the stage's.")
@as_json
def plan(*, percent: int | None, as_json: bool) -> None:
    """Look at every row as the mover will, and change nothing.

    Counts, sizes, how long the sessions have left, the rows that cannot move and why, the time that moving them would
    take, and the memory that they would need against Redis' maxmemory.

    \b
    Examples:
      session-ops migrate plan
      session-ops migrate plan --percent 100 --json
    """
    settings = with_legacy()
    status = StatusLine()
    try:
        shown = run(_plan(settings, percent, status), settings)
    finally:
        status.close()
    result(shown, lambda: _plan_lines(shown), as_json=as_json)


@click.command("status")
@as_json
def status(*, as_json: bool) -> None:
    """Show how far the migration is, from any host and at any time.

    Without a legacy store any more: what Redis keeps of the time when it was retired.

    \b
    Example:
      session-ops migrate status --json
    """
    settings = settings_or_exit()
    if not settings.legacy_database_url:
        kept = run(kept_in_redis(settings), settings)
        result(_kept_status(kept), lambda: _kept_lines(kept), as_json=as_json)
        return
    shown = run(_status(settings), settings)
    result(shown, lambda: _status_lines(shown), as_json=as_json)


@click.group("quarantine")
def quarantine() -> None:
    """Look at the rows that cannot move as they are, and let them be tried again.

    \b
    Examples:
      session-ops migrate quarantine list
      session-ops migrate quarantine retry --all --execute
    """


@quarantine.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--after", metavar="ID", help="Go on behind this id.")
@as_json
def list_(*, limit: int, after: str | None, as_json: bool) -> None:
    """Show the rows with the reason and the SHA-256 of their data, by id.

    \b
    Example:
      session-ops migrate quarantine list --json
    """
    settings = with_legacy()
    shown = run(_quarantined(settings, limit, after), settings)

    def lines() -> str:
        rows = [f"{one['reason']:<24} {one['size']:>9} {one['sha256'][:16]}  {one['id']!r}" for one in shown["rows"]]
        counted = [f"-- {count:,} {reason}" for reason, count in shown["reasons"].items()]
        return "\n".join([*rows, *counted]) or "-- nothing is in quarantine"

    result(shown, lines, as_json=as_json)


@quarantine.command("retry")
@click.argument("session_id", metavar="ID", required=False)
@click.option("--all", "every", is_flag=True, help="All of them.")
@execute
@as_json
def retry(session_id: str | None, *, every: bool, execute: bool, as_json: bool) -> None:
    """Let the next run try a row again, once its cause is gone.

    \b
    Examples:
      session-ops migrate quarantine retry 4f0c2b --execute
      session-ops migrate quarantine retry --all --execute
    """
    if (session_id is None) is not every:
        raise click.UsageError("give an ID or --all")
    settings = with_legacy()
    rows = run(_retry(settings, session_id, execute=execute), settings)
    says = "let go; the next run tries them" if execute else "would be tried again; add --execute"
    result({"changed": rows > 0, "rows": rows}, lambda: f"{rows} {says}", as_json=as_json)


COMMANDS = (plan, status, quarantine)
"""What `session-ops migrate` has of these."""


async def _plan(settings: Settings, percent: int | None, status: StatusLine) -> Plan:
    from session_ops.migration.outlook import Outlook  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.run_records import Target  # noqa: PLC0415

    async with Opened(settings) as opened:
        target = await opened.target()
        if percent is not None:
            target = Target(use_redis=True, percent=percent, canaries=target.canaries)
        latest = await opened.runs.latest()
        rate = None
        if latest is not None and latest.ended_at is not None and latest.moved_in >= 1_000:  # less says nothing
            rate = (latest.moved_in + latest.moved_back) * 1000 / max(1, latest.ended_at - latest.started_at)
        return await Outlook(settings, opened.store).plan(target, rate=rate, progress=status)


def _plan_lines(shown: Plan) -> str:
    lines = [
        f"-- {shown.target}",
        f"rows         {shown.rows:,}: {shown.live:,} live, {shown.expired:,} expired, {shown.deleted:,} ended",
        f"to move      {shown.to_redis:,} to Redis, {shown.to_legacy:,} back; {shown.in_redis:,} are in Redis",
        f"size         {shown.bytes:,} bytes of attributes, {shown.largest:,} the largest",
        "time left    " + ", ".join(f"{name} {count:,}" for name, count in shown.expiry.items()),
        f"duration     about {shown.seconds:,.0f} s at {shown.rate:,.0f} sessions/s",
    ]
    known = "Redis was not asked" if shown.used_memory is None else f"{shown.used_memory:,} used"
    limit = "" if shown.maxmemory is None else f" of {shown.maxmemory:,}" if shown.maxmemory else ", no maxmemory"
    fits = {None: "", True: "; it fits", False: "; it does NOT fit: raise redis_maxmemory first"}[shown.fits]
    lines.append(f"memory       about {shown.memory_needed:,} bytes for the sessions in Redis; {known}{limit}{fits}")
    for reason, count in shown.broken.items():
        ids = ", ".join(repr(one) for one in shown.broken_ids[reason][:3])
        lines.append(f"cannot move  {count:,} {reason}: {ids}{', ...' if count > 3 else ''}")
    return "\n".join(lines)


async def _status(settings: Settings) -> dict[str, Any]:
    async with Opened(settings) as opened:
        from session_ops.migration.quarantine import Quarantine  # noqa: PLC0415 - not needed for --help
        from session_ops.migration.report import described  # noqa: PLC0415

        stage = await opened.stages.read()
        target = stage.target
        lock = await opened.runs.lock()
        latest = await opened.runs.latest()
        control = await opened.store.control_store.read()
        held = lock.holder is not None and (lock.until or 0) > lock.now
        return {
            "stage": stage.stage,
            "step": steps_of(stage)[0] if stage.steps else None,
            "changed_at": stage.changed_at,
            "changed_by": stage.changed_by,
            "target": target.text,
            "use_redis": target.use_redis,
            "percent": target.percent,
            "canaries": len(target.canaries),
            "generation": control.generation,
            "mode": control.mode,
            "redis": control.redis,
            "holder": lock.holder if held else None,
            "purpose": lock.purpose if held else None,
            "rows": await opened.moves.rows(),
            "quarantine": await Quarantine(opened.store).counts(),
            "run": await described(opened.runs, latest, lock.now) if latest is not None else None,
        }


def _kept_status(kept: Kept) -> dict[str, Any]:
    return {
        "stage": kept.stage.stage,
        "step": steps_of(kept.stage)[0] if kept.stage.steps else None,
        "changed_at": kept.stage.changed_at,
        "changed_by": kept.stage.changed_by,
        "generation": kept.generation,
        "prefix": kept.prefix,
        "mode": "final",
        "kept_at": kept.at,
        "run": msgspec.to_builtins(kept.run),
    }


def _kept_lines(kept: Kept) -> str:
    at = datetime.fromtimestamp(kept.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    run_id = kept.run.run_id if kept.run is not None else "-"
    return (
        f"stage        {kept.stage.stage}, since {at} UTC, by {kept.stage.changed_by}\n"
        f"redis        generation {kept.generation}, prefix {kept.prefix}: it alone keeps the sessions\n"
        f"run          {run_id}, the last one"
    )


def _status_lines(shown: dict[str, Any]) -> str:
    lines = [
        f"stage        {shown['stage']}{_step(shown['step'])}",
        f"home         {shown['target']}",
        f"redis        {shown['redis']}, generation {shown['generation']}, mode {shown['mode']}",
        f"at work      {shown['holder'] or 'nobody'}" + (f" ({shown['purpose']})" if shown["purpose"] else ""),
    ]
    one = shown["run"]
    if one is not None:
        reason = f": {one['reason']}" if one["reason"] else ", paused" if one["paused"] else ""
        lines += [
            f"run          {one['run_id']} {one['state']}{reason}, begun by {one['started_by']}",
            (
                f"done         {one['moved_in']:,} to Redis, {one['moved_back']:,} back, {one['quarantined']:,} into"
                f" quarantine; pass {one['pass_number']}, {one['scanned']:,} rows of about {shown['rows']:,},"
                f" {one['per_second']:,}/s"
            ),
        ]
        lines += [
            f"mover        {each['mover']} {'live' if each['live'] else 'dead'}, {each['claimed']} in flight"
            + (f", {each['throttle']}" if each["throttle"] else "")
            for each in one["movers"]
        ]
    lines += [f"quarantine   {count:,} {reason}" for reason, count in shown["quarantine"].items()]
    return "\n".join(lines)


def _step(step: dict[str, Any] | None) -> str:
    if step is None:
        return ""
    return f"; step {step['step']} {step['state']}, begun by {step['began_by']}" + (
        f": {step['reason']}" if step["reason"] else ""
    )


async def _quarantined(settings: Settings, limit: int, after: str | None) -> dict[str, Any]:
    from session_ops.migration.quarantine import Quarantine  # noqa: PLC0415 - not needed for --help

    async with Opened(settings) as opened:
        kept = Quarantine(opened.store)
        rows = await kept.list(limit, after)
        return {"rows": msgspec.to_builtins(rows), "reasons": await kept.counts()}


async def _retry(settings: Settings, session_id: str | None, *, execute: bool) -> int:
    from session_ops.migration.quarantine import Quarantine  # noqa: PLC0415 - not needed for --help

    async with Opened(settings) as opened:
        kept = Quarantine(opened.store)
        if execute:
            return await kept.retry(session_id, opened.audit)
        if session_id is None:
            return sum((await kept.counts()).values())
        return sum(one.id == session_id for one in await kept.list(1_000_000))
