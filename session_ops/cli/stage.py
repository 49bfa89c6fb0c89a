"""`session-ops migrate stage`: where the migration is, and the steps that take it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from session_ops.cli.frame import as_json, execute, result, run
from session_ops.cli.migration_stores import Opened, with_legacy
from session_ops.errors import PreconditionError
from session_ops.limits import is_id

if TYPE_CHECKING:
    from session_ops.migration.stages import Stage
    from session_ops.settings import Settings


def _step_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """`canary`, or a percentage without leading zeros."""
    del context, parameter
    if value == "canary":
        return value
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 100):
        raise click.BadParameter(f"{value!r} is neither canary nor a percentage from 1 to 100")
    return str(int(value))


_step = click.argument("step", metavar="STEP", callback=_step_name)


@click.group("stage")
def stage() -> None:
    """Show the stage, begin a step and end it; playbooks/migrate.yml does this, and the hosts' flags in between.

    The stage says where every session has its home. It only goes up; the way back is the rollback.

    \b
    Examples:
      session-ops migrate stage show
      session-ops migrate stage begin 10               are the gates open?
      session-ops migrate stage begin 10 --execute
      session-ops migrate stage end 10 --reached --execute
    """


@stage.command()
@as_json
def show(*, as_json: bool) -> None:
    """Show the stage, and the last steps with who took them, and what came of them.

    \b
    Example:
      session-ops migrate stage show --json
    """
    settings = with_legacy()
    shown = run(_show(settings), settings)
    result(shown, lambda: _show_lines(shown), as_json=as_json)


@stage.command()
@_step
@click.option("--id", "ids", multiple=True, metavar="ID", help="A canary: its home is Redis from now on; repeatable.")
@click.option("--host", "hosts", multiple=True, metavar="NAME",
              help="A host of the inventory, which must serve; repeatable. No other one may then.")  # fmt: skip
@click.option("--most-broken", type=click.IntRange(0), default=1_000, show_default=True,
              help="Rows that cannot move as they are and may be put aside.")  # fmt: skip
@click.option("--take-over", is_flag=True, help="Go on with the step of an operator who is gone.")
@execute
@as_json
def begin(
    *,
    step: str,
    ids: tuple[str, ...],
    hosts: tuple[str, ...],
    most_broken: int,
    take_over: bool,
    execute: bool,
    as_json: bool,
) -> None:
    """Begin STEP, `canary` or a percentage: the stage row wants it, and the flags and the mover may follow.

    First the gates: the control row is in order, Redis is reached and has room, every host reports and knows the
    generation, not too many rows are broken, nobody else is at work. One that is closed stops it with nothing changed.
    A step that is reached already changes nothing.

    Exit codes: 3 a gate is closed; 4 somebody else is at it, or the percentage goes down.

    \b
    Examples:
      session-ops migrate stage begin 10
      session-ops migrate stage begin canary --id 4f0c2b --execute
      session-ops migrate stage begin 10 --host app1 --host app2 --execute
    """
    for one in ids:
        if not is_id(one):
            raise click.BadParameter(f"{one!r} is no id that a session can have", param_hint="--id")
    settings = with_legacy()
    answer = run(
        _begin(settings, step, ids, hosts, most_broken=most_broken, take_over=take_over, execute=execute), settings
    )
    result(answer, lambda: _begin_lines(answer, execute=execute), as_json=as_json)


@stage.command()
@_step
@click.option("--reached", is_flag=True, help="Every host's flag, every session and the validation agree.")
@click.option("--stopped", metavar="REASON", help="It was stopped, and why.")
@click.option("--run", "run_id", metavar="ID", help="The mover's run.")
@click.option("--facts", default="{}", metavar="JSON", help="What was measured.")
@execute
@as_json
def end(
    *, step: str, reached: bool, stopped: str | None, run_id: str | None, facts: str, execute: bool, as_json: bool
) -> None:
    """Say how STEP ended, which was begun last.

    \b
    Examples:
      session-ops migrate stage end 10 --reached --execute
      session-ops migrate stage end 10 --stopped "p99 doubled" --execute
    """
    if reached is (stopped is not None):
        raise click.UsageError("give --reached or --stopped REASON")
    try:
        measured = msgspec.json.decode(facts, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise click.BadParameter("a JSON object", param_hint="--facts") from error
    settings = with_legacy()
    changed = run(_end(settings, step, stopped, run_id, measured, execute=execute), settings)
    how = "reached" if stopped is None else f"stopped: {stopped}"
    says = f"step {step} {how}" + ("" if execute else "; that would be noted, add --execute")
    result({"changed": changed, "step": step, "reached": reached}, lambda: says, as_json=as_json)


def steps_of(shown: Stage) -> list[dict[str, Any]]:
    """The steps for a reader, the last one first."""
    return [{**msgspec.to_builtins(one), "facts": msgspec.json.decode(one.facts)} for one in shown.steps]


async def _show(settings: Settings) -> dict[str, Any]:
    async with Opened(settings) as opened:
        shown = await opened.stages.read()
        target = {"target": shown.target.text, **msgspec.to_builtins(shown.target)}
        return {**msgspec.to_builtins(shown), **target, "steps": steps_of(shown)}


def _show_lines(shown: dict[str, Any]) -> str:
    lines = [f"stage        {shown['stage']}", f"home         {shown['target']}"]
    for one in shown["steps"]:
        reason = f": {one['reason']}" if one["reason"] else ""
        run_id = f", run {one['run_id']}" if one["run_id"] else ""
        lines.append(f"step         {one['step']} {one['state']}, begun by {one['began_by']}{run_id}{reason}")
    return "\n".join(lines)


async def _begin(
    settings: Settings,
    step: str,
    ids: tuple[str, ...],
    hosts: tuple[str, ...],
    *,
    most_broken: int,
    take_over: bool,
    execute: bool,
) -> dict[str, Any]:
    from session_ops.migration.gates import Gates  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.stages import due  # noqa: PLC0415

    async with Opened(settings) as opened:
        before, target = await opened.stages.look(step, ids, take_over=take_over)
        changed = due(before, step, target)
        gates, plan = await Gates(settings, opened.store, bumps=not execute).pass_through(
            target, hosts=hosts, most_broken=most_broken, plan=changed
        )
        if closed := [f"gate {gate.name}: {gate.reason}" for gate in gates if gate.reason]:
            raise PreconditionError(*closed)
        if execute and changed:
            changed = await opened.stages.begin(step, ids, take_over=take_over)
        return {
            "changed": changed,
            "step": step,
            "before": before.target.text,
            "after": target.text,
            "percent": target.percent,
            "gates": [gate.name for gate in gates],
            "plan": msgspec.to_builtins(plan),
        }


def _begin_lines(answer: dict[str, Any], *, execute: bool) -> str:
    lines = [f"gates open   {', '.join(answer['gates'])}", f"before       {answer['before']}",
             f"after        {answer['after']}"]  # fmt: skip
    if answer["plan"]:
        moves = f"{answer['plan']['to_redis']:,} to Redis, {answer['plan']['to_legacy']:,} back"
        lines.append(f"to move      {moves}, about {answer['plan']['seconds']:,.0f} s")
    done = "begun" if execute else "would be begun; add --execute"
    return "\n".join([*lines, f"-- step {answer['step']} {done if answer['changed'] else 'is reached already'}"])


async def _end(
    settings: Settings,
    step: str,
    stopped: str | None,
    run_id: str | None,
    facts: dict[str, Any],
    *,
    execute: bool,
) -> bool:
    from session_ops.migration.stages import REACHED, STOPPED  # noqa: PLC0415 - not needed for --help

    async with Opened(settings) as opened:
        state = REACHED if stopped is None else STOPPED
        if not execute:
            return await opened.stages.would_end(step, state, stopped)
        text = msgspec.json.encode(facts).decode()
        return await opened.stages.end(step, state, reason=stopped, run_id=run_id, facts=text)
