"""`session-ops migrate run|one|pause|resume|set`: what moves sessions, and what tells it how."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from session_ops.cli.frame import PRECONDITION, UNFINISHED, as_json, execute, fail, result, run
from session_ops.cli.migration_stores import Opened, with_legacy
from session_ops.cli.progress import StatusLine
from session_ops.errors import PreconditionError, StoreUnavailableError

if TYPE_CHECKING:
    from session_ops.migration.mover import Outcome
    from session_ops.owned_access import OwnedStore
    from session_ops.settings import Settings

_rate = click.option("--rate", type=click.IntRange(1), help="Sessions per second at most.")
_batch = click.option("--batch", type=click.IntRange(1, 1_000), help="Sessions of a batch at most.")


@click.command("run")
@click.option("--join", is_flag=True, help="Help the run that is in progress, from this host.")
@click.option("--take-over", is_flag=True, help="Take the lock from an operator who is gone.")
@click.option("--stop-file", type=click.Path(path_type=Path), help="Stop behind the batch once this file exists.")
@click.option("--most-broken", type=click.IntRange(0), default=1_000, show_default=True,
              help="Rows that cannot move as they are, before the run stops.")  # fmt: skip
@click.option("--metrics", multiple=True, metavar="URL", help="A host's /metrics, whose p99 is watched; repeatable.")
@click.option("--p99-limit", type=click.FloatRange(1), default=100.0, show_default=True, metavar="MS",
              help="Above this p99 of the service the mover gives way.")  # fmt: skip
@_rate
@_batch
@execute
@as_json
def run_command(
    *,
    join: bool,
    take_over: bool,
    stop_file: Path | None,
    most_broken: int,
    metrics: tuple[str, ...],
    p99_limit: float,
    rate: int | None,
    batch: int | None,
    execute: bool,
    as_json: bool,
) -> None:
    """Bring every session to its home: to Redis, or back, as the stage row says.

    Goes through the table in batches while the fleet serves, and gives way when Redis, the legacy store or the service
    gets slower. Killed anywhere, the same command goes on where it was. One operator at a time; movers on other hosts
    help with --join. Rows that cannot move are put aside: see `session-ops migrate quarantine list`.

    Exit codes: 3 something is in the way that a person must put right; 4 another operator is at work; 6 and 7 a store
    is out of reach, run it again; 8 interrupted, run it again.

    \b
    Examples:
      session-ops migrate run                  what would be moved?
      session-ops migrate run --execute
      session-ops migrate run --execute --join
      session-ops migrate run --execute --rate 2000 --metrics http://app1:8080/metrics
    """
    settings = with_legacy()
    if not execute:
        shown = run(_would(settings), settings)
        result(shown, lambda: _would_lines(shown), as_json=as_json)
        return
    status = StatusLine()
    try:
        done = run(
            _move(
                settings, status, join=join, take_over=take_over, stop_file=stop_file, most_broken=most_broken,
                metrics=metrics, p99=p99_limit / 1000, rate=rate, batch=batch,
            ),
            settings,
        )  # fmt: skip
    finally:
        status.close()
    result(done, lambda: _outcome_lines(done), as_json=as_json)
    if done.state != "done":
        fail(f"stopped: {done.reason}", UNFINISHED if done.resumable else PRECONDITION)


@click.command("one")
@click.argument("session_id", metavar="ID")
@execute
@as_json
def one(session_id: str, *, execute: bool, as_json: bool) -> None:
    """Bring one session to its home, as the next request for it would.

    \b
    Example:
      session-ops migrate one 4f0c2b --execute
    """
    settings = with_legacy()
    answer = run(_one(settings, session_id, execute=execute), settings)
    would = "" if execute or not answer["changed"] else "; it would move, add --execute"
    result(answer, lambda: f"home {answer['home']}, now in {answer['owner']}{would}", as_json=as_json)


@click.command("pause")
@execute
@as_json
def pause(*, execute: bool, as_json: bool) -> None:
    """Let the run in progress wait; its movers stay.

    \b
    Example:
      session-ops migrate pause --execute
    """
    _told(paused=True, rate=None, batch=None, execute=execute, as_json=as_json)


@click.command("resume")
@execute
@as_json
def resume(*, execute: bool, as_json: bool) -> None:
    """Let a run that waits go on.

    \b
    Example:
      session-ops migrate resume --execute
    """
    _told(paused=False, rate=None, batch=None, execute=execute, as_json=as_json)


@click.command("set")
@click.option("--rate", type=click.IntRange(0), help="Sessions per second at most; 0: no limit.")
@click.option("--batch", type=click.IntRange(0, 1_000), help="Sessions of a batch at most; 0: as many as fit.")
@execute
@as_json
def set_(*, rate: int | None, batch: int | None, execute: bool, as_json: bool) -> None:
    """Tell the run in progress how fast it may go.

    \b
    Example:
      session-ops migrate set --rate 500 --execute
    """
    if rate is None and batch is None:
        raise click.UsageError("give --rate or --batch")
    _told(paused=None, rate=rate, batch=batch, execute=execute, as_json=as_json)


COMMANDS = (run_command, one, pause, resume, set_)
"""What `session-ops migrate` has of these."""


async def _move(
    settings: Settings,
    status: StatusLine,
    *,
    join: bool,
    take_over: bool,
    stop_file: Path | None,
    most_broken: int,
    metrics: tuple[str, ...],
    p99: float,
    rate: int | None,
    batch: int | None,
) -> Outcome:
    from session_ops.migration.mover import Mover  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.service_latency import ServiceLatency  # noqa: PLC0415
    from session_ops.migration.throttle import Limits, Throttle  # noqa: PLC0415

    latency = ServiceLatency(metrics)
    async with Opened(settings) as opened:
        try:
            total = await opened.moves.rows()
        except StoreUnavailableError as error:
            if error.reason != "statement timeout":
                raise
            total = 0
        mover = Mover(
            opened.store,
            opened.runs,
            opened.moves,
            lease=settings.session_lease,
            throttle=Throttle(Limits(p99=p99 if metrics else None), latency.p99 if metrics else None),
            progress=status,
            total=total or None,
            stop_file=stop_file,
            most_broken=most_broken,
            partitions=settings.session_partitions,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, mover.stop, f"interrupted by {number.name}")
        return await mover.run(join=join, take_over=take_over, rate=rate, batch=batch)


async def _would(settings: Settings) -> dict[str, Any]:
    from session_ops.migration.outlook import Outlook  # noqa: PLC0415 - not needed for --help

    async with Opened(settings) as opened:
        target = await opened.target()
        outlook = await Outlook(settings, opened.store).moves(target)
        return {"changed": bool(outlook.to_redis or outlook.to_legacy), "target": target.text,
                **msgspec.structs.asdict(outlook)}  # fmt: skip


def _would_lines(shown: dict[str, Any]) -> str:
    return (
        f"-- {shown['target']}\n"
        f"-- {shown['to_redis']:,} sessions would move to Redis, {shown['to_legacy']:,} back to the legacy store;"
        f" {shown['rows']:,} rows, {shown['expired']:,} of them expired\n"
        "-- nothing was changed; add --execute"
    )


def _outcome_lines(done: Outcome) -> str:
    moved = done.moved_in + done.moved_back
    rate = f", {moved / done.seconds:,.0f}/s" if moved and done.seconds else ""
    first = f"-- {done.unlinked:,} sessions of old generations removed from Redis\n" if done.unlinked else ""
    return first + (
        f"-- run {done.run_id} {done.state}: {done.moved_in:,} moved to Redis, {done.moved_back:,} back,"
        f" {done.again:,} put again, {done.expired:,} expired meanwhile, {done.quarantined:,} into quarantine;"
        f" {done.scanned:,} rows looked at in {done.seconds:.1f} s{rate}"
    )


async def _one(settings: Settings, session_id: str, *, execute: bool) -> dict[str, Any]:
    from session_ops.migration.mover import Mover  # noqa: PLC0415 - not needed for --help

    async with Opened(settings) as opened:
        target = await opened.target()
        await opened.store.steps.control()
        look = await _look(opened.store, session_id)
        home = opened.store.ownership.home(session_id)
        changed = look not in {"absent", home}
        if execute and changed:
            mover = Mover(opened.store, opened.runs, opened.moves, lease=settings.session_lease)
            after = await mover.one(session_id)
            return {"home": home, "owner": after, "changed": after != look, "target": target.text}
        return {"home": home, "owner": look, "changed": changed, "target": target.text}


async def _look(store: OwnedStore, session_id: str) -> str:
    try:
        look = await store.steps.get(session_id)
    except StoreUnavailableError as error:
        if error.reason == "unreadable row":
            raise PreconditionError("the row cannot be read: `session-ops migrate quarantine list` says why") from error
        raise
    if look.row is None or look.row.deleted or look.row.ended:
        return "absent"
    return "redis" if look.row.owner == "redis" and look.row.generation == look.control.generation else "legacy"


def _told(*, paused: bool | None, rate: int | None, batch: int | None, execute: bool, as_json: bool) -> None:
    settings = with_legacy()
    answer = run(_tell(settings, paused=paused, rate=rate, batch=batch, execute=execute), settings)

    def lines() -> str:
        state = "waits" if answer["paused"] else "goes on"
        limits = f"rate {answer['rate'] or 'unlimited'}, batch {answer['batch'] or 'as it fits'}"
        return f"run {answer['run_id']} {state}, {limits}" + ("" if execute else "; that would be so, add --execute")

    result(answer, lines, as_json=as_json)


async def _tell(
    settings: Settings, *, paused: bool | None, rate: int | None, batch: int | None, execute: bool
) -> dict[str, Any]:
    async with Opened(settings) as opened:
        latest = await opened.runs.latest()
        if latest is None or latest.state != "running":
            raise PreconditionError("no run is in progress: `session-ops migrate run --execute` begins one")
        wanted = {
            "paused": latest.paused if paused is None else paused,
            "rate": latest.rate if rate is None else rate or None,
            "batch": latest.batch if batch is None else batch or None,
        }
        changed = wanted != {name: getattr(latest, name) for name in wanted}
        if execute and changed and not await opened.runs.set(latest, **wanted):  # type: ignore[arg-type]
            raise PreconditionError("the run has ended meanwhile")
        return {"run_id": latest.run_id, "changed": changed, **wanted}
