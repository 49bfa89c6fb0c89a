"""`session-ops migrate validate`: do both stores say the same?"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from session_ops.cli.frame import MISMATCH, UNFINISHED, as_json, execute, fail, note, result, run
from session_ops.cli.migration_stores import Opened, with_legacy
from session_ops.cli.progress import StatusLine

if TYPE_CHECKING:
    from session_ops.migration.validated import Validated, Way
    from session_ops.settings import Settings

SHOWN = 20
"""Mismatches that are shown to a person; --json has all."""


@click.command("validate")
@click.option("--full", "way", flag_value="full", help="Every session, field by field.")
@click.option("--digest", "way", flag_value="digest",
              help="Every session, each store added up by itself; what differs is compared.")  # fmt: skip
@click.option("--sample", type=click.IntRange(1, 100_000), metavar="N",
              help="So many sessions of each store at random; without --full and --digest 1000.")  # fmt: skip
@click.option("--repair", is_flag=True, help="Make the protocol's own step where one is missing; with --execute.")
@click.option("--resume", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Keep what is done in this file, and go on from there.")  # fmt: skip
@click.option("--rate", type=click.IntRange(1), help="Sessions per second at most.")
@click.option("--metrics", multiple=True, metavar="URL", help="A host's /metrics, whose p99 is watched; repeatable.")
@click.option("--p99-limit", type=click.FloatRange(1), default=100.0, show_default=True, metavar="MS",
              help="Above this p99 of the service the validation gives way.")  # fmt: skip
@execute
@as_json
def validate(
    *,
    way: Way | None,
    sample: int | None,
    repair: bool,
    resume: Path | None,
    rate: int | None,
    metrics: tuple[str, ...],
    p99_limit: float,
    execute: bool,
    as_json: bool,
) -> None:
    """Compare the stores, in both directions, while the fleet serves; changes no session.

    What the legacy store leaves to Redis is there, with the same user, agent, data, times, revision and version and the
    same absolute expiry; what Redis serves has such a row; no session is served by both, and none by neither. What
    differs is looked at again before it counts, so that a change under way is no mismatch. Of a user, an agent and data
    only fingerprints are printed.

    --repair makes the steps that a host or a mover did not live to make, each with the fences it always has. Where no
    step of the protocol applies, a person decides: the line says what to look at, and nothing is touched.

    Exit codes: 0 the stores agree (with --repair --execute: now); 3 there is nothing to compare; 5 mismatches; 6 and 7
    a store is out of reach, run it again; 8 interrupted: with --resume the same command goes on.

    \b
    Examples:
      session-ops migrate validate                      1,000 sessions of each store
      session-ops migrate validate --full --resume /root/validation
      session-ops migrate validate --digest --json
      session-ops migrate validate --full --repair      what would be repaired?
      session-ops migrate validate --full --repair --execute
    """
    if execute and not repair:
        raise click.UsageError("--execute only goes with --repair: a validation by itself changes nothing")
    if way is not None and sample is not None:
        raise click.UsageError("--sample goes without --full and --digest")
    settings = with_legacy()
    status = StatusLine()
    try:
        done = run(
            _validate(
                settings, status, way or "sample", sample or 1_000, repair=repair and execute, resume=resume, rate=rate,
                metrics=metrics, p99=p99_limit / 1000,
            ),
            settings,
        )  # fmt: skip
    finally:
        status.close()
    result(done, lambda: lines_of(done, repair=repair, execute=execute), as_json=as_json)
    if not done.agree:
        left = len(done.mismatches) - len(done.repaired)
        fail(f"{left:,} mismatches" + (f", and stopped: {done.reason}" if done.reason else ""), MISMATCH)
    if done.state != "done":
        again = "the same command goes on" if resume else "with --resume FILE it could go on from there"
        fail(f"stopped: {done.reason}; {again}", UNFINISHED)


async def _validate(
    settings: Settings,
    status: StatusLine,
    way: Way,
    sample: int,
    *,
    repair: bool,
    resume: Path | None,
    rate: int | None,
    metrics: tuple[str, ...],
    p99: float,
) -> Validated:
    from session_ops.migration.outlook import DEADLINE  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.service_latency import ServiceLatency  # noqa: PLC0415
    from session_ops.migration.throttle import Limits, Throttle  # noqa: PLC0415
    from session_ops.migration.validation import Validator  # noqa: PLC0415
    from session_ops.stores.legacy_database import Database  # noqa: PLC0415
    from session_ops.stores.legacy_moves import Moves  # noqa: PLC0415

    latency = ServiceLatency(metrics)
    throttle = Throttle(Limits(p99=p99 if metrics else None), latency.p99 if metrics else None)
    throttle.rate = rate
    database = Database(settings.legacy_database_url, deadline=DEADLINE, pool_size=1)
    async with Opened(settings) as opened:
        try:
            validator = Validator(
                opened.store,
                Moves(database, opened.store.schema, opened.store.control_schema),
                lease=settings.session_lease,
                partitions=settings.session_partitions,
                throttle=throttle,
                progress=status,
                keep=resume,
            )
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, validator.stop, f"interrupted by {number.name}")
            done = await validator.run(way, sample=sample)
            if repair and done.mismatches:
                done = msgspec.structs.replace(done, repaired=await validator.repair())
            await note_of(settings, done)
            return done
        finally:
            await database.close()


async def note_of(settings: Settings, done: Validated) -> None:
    """Leave in the audit that somebody has looked, and what was found: counts, no ids."""
    from session_ops.migration.report import VALIDATED  # noqa: PLC0415 - not needed for --help

    await note(
        settings, VALIDATED, way=done.way, state=done.state, rows=done.rows, records=done.records, lag=done.lag,
        busy=done.busy, mismatches=done.kinds, repaired=len(done.repaired), seconds=done.seconds,
    )  # fmt: skip


def lines_of(done: Validated, *, repair: bool = False, execute: bool = False) -> str:
    """What a person reads of it."""
    ways = {"full": "every session", "digest": "every session, by digest", "sample": "a sample"}
    lines = [
        f"-- {ways[done.way]}, generation {done.generation}, mode {done.mode}, Redis {done.redis}",
        f"compared     {done.rows:,} rows and {done.records:,} records in {done.seconds:.1f} s",
        f"served by    Redis {done.in_redis:,}, the legacy store {done.in_legacy:,}",
        f"lag          {done.lag:,} settled when looked at again, {done.busy:,} busy throughout",
    ]
    if done.digests is not None:
        lines.append(f"digests      rows {done.digests[0]}, records {done.digests[1]}")
    for each in done.mismatches[:SHOWN]:
        apart = ", ".join(f"{name} {ours} / {theirs}" for name, (ours, theirs) in each.fields.items())
        mark = "repaired" if each.id in done.repaired else "mismatch"
        lines.append(f"{mark:<12} {each.id!r} {each.kind}: {apart}")
    if len(done.mismatches) > SHOWN:
        lines.append(f"             and {len(done.mismatches) - SHOWN:,} more; --json has all")
    for kind, count in done.kinds.items():
        remedy = next(each.remedy for each in done.mismatches if each.kind == kind)
        lines.append(f"-- {count:,} {kind}. {remedy}")
    if not done.mismatches:
        lines.append("-- the stores agree" if done.state == "done" else "-- no mismatch as far as it came")
    elif repair and not execute:
        lines.append("-- nothing was changed; add --execute")
    return "\n".join(lines)
