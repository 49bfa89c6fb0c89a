"""`session-ops rollback`: every session back to the legacy store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_ops.cli import retire, validate
from session_ops.cli.frame import MISMATCH, as_json, execute, fail, result, run
from session_ops.cli.migration_stores import with_legacy
from session_ops.cli.migration_work import Work
from session_ops.cli.progress import StatusLine

if TYPE_CHECKING:
    from session_ops.migration.rollback import Plan, Rollback, RolledBack
    from session_ops.settings import Settings


@click.command("rollback")
@click.option("--redis-lost", is_flag=True, help="By force, without Redis: in constant time.")
@click.option("--redis-off", is_flag=True, help="End the generation once every session is home, so that Redis is off.")
@click.option("--begin", is_flag=True, help="Only let the stage say legacy; the hosts' flags come next.")
@click.option("--take-over", is_flag=True, help="Take the lock from the operator who is at work.")
@click.option("--rate", type=click.IntRange(1), help="Sessions per second at most.")
@execute
@as_json
def command(
    *, redis_lost: bool, redis_off: bool, begin: bool, take_over: bool, rate: int | None, execute: bool, as_json: bool
) -> None:
    """Bring every session home to the legacy store, from any stage but final; shows what it will do and what it cannot.

    The flags of the hosts go off first, on each host: `playbooks/rollback.yml` does all of it in order. Then the mover
    brings the sessions home while the fleet serves, and both stores are compared. Repeatable, by anybody: what is done
    is not done again.

    With --redis-lost Redis is not asked for anything: a bump to no server gives every session to the legacy store,
    SESSION_LEASE and one second after it is announced, however many there are. No change that was acknowledged is lost.

    Exit codes: 3 it cannot be from here, and why; 4 another operator is at work; 5 the stores do not agree; 6 and 7 a
    store is out of reach; 8 interrupted, the same command goes on.

    \b
    Examples:
      session-ops rollback                        what would be done?
      session-ops rollback --execute
      session-ops rollback --redis-lost --execute
    """
    if redis_lost and (redis_off or rate):
        raise click.UsageError("--redis-lost turns Redis off at once and moves nothing: give it alone")
    settings = with_legacy()
    if not execute:
        plan = run(_plan(settings, redis_lost=redis_lost, redis_off=redis_off), settings)
        result(plan, lambda: _plan_lines(plan), as_json=as_json)
        return
    status = StatusLine()
    try:
        done = run(
            _roll_back(
                settings,
                status,
                redis_lost=redis_lost,
                redis_off=redis_off,
                begin=begin,
                take_over=take_over,
                rate=rate,
            ),
            settings,
        )  # fmt: skip
    finally:
        status.close()
    result(done, lambda: _done_lines(done, begin=begin), as_json=as_json)
    if done.validated is not None and not done.validated.agree:
        fail(f"{len(done.validated.mismatches):,} mismatches; `session-ops migrate validate --full` again", MISMATCH)


def _rollback(work: Work) -> Rollback:
    from session_ops.migration.rollback import Rollback  # noqa: PLC0415 - not needed for --help

    opened, settings = work.opened, work.settings

    async def abandon() -> bool:
        # Whether another operator is at work was asked when the way back began
        return await (await retire.retirement(work)).abandon(take_over=True)

    return Rollback(
        opened.store,
        opened.runs,
        work.moves,
        opened.stages,
        opened.audit,
        lease=settings.session_lease,
        address=f"{settings.redis_host}:{settings.redis_port}",
        partitions=settings.session_partitions,
        abandon=abandon,
    )


async def _plan(settings: Settings, *, redis_lost: bool, redis_off: bool) -> Plan:
    async with Work(settings) as work:
        return await _rollback(work).plan(redis_lost=redis_lost, redis_off=redis_off)


async def _roll_back(
    settings: Settings,
    status: StatusLine,
    *,
    redis_lost: bool,
    redis_off: bool,
    begin: bool,
    take_over: bool,
    rate: int | None,
) -> RolledBack:
    from session_ops.logs import configure_logs  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.rollback import RolledBack  # noqa: PLC0415

    configure_logs(settings.session_log_level)
    async with Work(settings, status, rate) as work:
        rollback = _rollback(work)
        if not await rollback.is_prepared():
            return RolledBack(changed=False, stage_changed=False, moved=0, generation=None, seconds=0.0)
        if begin:
            changed = await rollback.begin(redis_lost=redis_lost, take_over=take_over)
            return RolledBack(changed=changed, stage_changed=changed, moved=0, generation=None, seconds=0.0)
        if redis_lost:
            click.echo(f"waiting {settings.session_lease + 1:g} s for the hosts' leases to end", err=True)
            return await rollback.force(take_over=take_over)
        done = await rollback.home(work.mover, work.validator, take_over=take_over, redis_off=redis_off)
        if done.validated is not None:
            await validate.note_of(settings, done.validated)
        return done


def _plan_lines(plan: Plan) -> str:
    state = plan.state
    if state is None:
        return "-- the table is not prepared: every session is the application's own; nothing to do"
    answers = f", and does not serve: {state.answers}" if state.answers else ""
    lines = [
        f"stage        {state.target}",
        f"redis        {state.redis}{answers}; generation {state.generation}, mode {state.mode}",
    ]
    if state.in_redis is not None:
        lines.append(f"in Redis     {state.in_redis:,} sessions")
    if state.holder:
        lines.append(f"at work      {state.holder}; it is not disturbed without --take-over")
    lines += [f"will         {number}. {step}" for number, step in enumerate(plan.will, 1)]
    lines += [f"cannot       {each}" for each in plan.cannot]
    lines.append(
        "-- nothing was changed; add --execute" if plan.changed else "-- every session is at home; nothing to do"
    )
    return "\n".join(lines)


def _done_lines(done: RolledBack, *, begin: bool) -> str:
    lines = [validate.lines_of(done.validated)] if done.validated is not None else []
    lines.append(f"stage        {'says legacy now' if done.stage_changed else 'said legacy already'}")
    if not begin:
        lines.append(f"moved        {done.moved:,} sessions home")
        lines.append(
            f"generation   {done.generation} begun without Redis, which is off"
            if done.generation
            else "generation   stays as it was"
        )
        lines.append(f"-- rolled back in {done.seconds:.1f} s: every session is the legacy store's")
    return "\n".join(lines)
