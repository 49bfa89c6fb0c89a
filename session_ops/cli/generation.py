"""`session-ops generation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from session_ops.cli.frame import (
    PRECONDITION,
    as_json,
    execute,
    fail,
    redis_repository,
    result,
    run,
    settings_or_exit,
)
from session_ops.limits import is_prefix

if TYPE_CHECKING:
    from session_ops.records import StoreState
    from session_ops.settings import Settings


@click.group("generation")
def command() -> None:
    """Show or open the generation of keys in Redis.

    A generation is one life of Redis on one server: its prefix stands in every key, so that the keys of a lost Redis
    are never looked at.

    \b
    Examples:
      session-ops generation show --json
      session-ops generation open 1-7f3a9c --execute
    """


@command.command()
@as_json
def show(*, as_json: bool) -> None:
    """Show which generation is in force, and whether Redis and the function library are there.

    Changes nothing, and exits with 0 also when Redis is down: the answer says so.

    \b
    Example:
      session-ops generation show --json
    """
    settings = settings_or_exit()
    state = run(_describe(settings), settings)
    details = state.details
    mode = details.get("mode")
    # Keys and library are facts about Redis that a service without a generation can be down with.
    reached = state.state == "up" or details.get("keys") is not None
    answer: dict[str, Any] = {
        "prefix": settings.session_generation_prefix or None if mode else None,
        "mode": mode,
        "redis": "up" if reached else "down",
        "keys": details.get("keys"),
        "library": bool(details.get("library")),
        "reason": state.reason,
    }
    result(answer, lambda: "\n".join(f"{name:<8} {value}" for name, value in answer.items()), as_json=as_json)


@command.command("open")
@click.argument("prefix")
@execute
@as_json
def open_(prefix: str, *, execute: bool, as_json: bool) -> None:
    """Open generation PREFIX (`1-` and something random) in an EMPTY Redis, in mode final.

    Never over data. A generation that is already open under this prefix is left alone.

    \b
    Example:
      session-ops generation open 1-7f3a9c --execute
    """
    settings = settings_or_exit()
    if not is_prefix(prefix):
        raise click.BadParameter("1 to 64 letters, digits, dashes and underscores", param_hint="PREFIX")
    if execute:
        changed = run(_open(settings, prefix), settings)
        answer = {"changed": changed, "prefix": prefix}
        done = "opened" if changed else "was open already"
        result(answer, lambda: f"generation {prefix} {done}", as_json=as_json)
        return
    details = run(_describe(settings, prefix), settings).details
    is_open = details.get("mode") is not None
    keys = details.get("keys")
    if not is_open and keys:
        fail(f"Redis holds {keys} keys and no generation {prefix}; one is only opened in an empty Redis", PRECONDITION)
    says = "is open already" if is_open else "would be opened; add --execute"
    result({"changed": not is_open, "prefix": prefix}, lambda: f"generation {prefix} {says}", as_json=as_json)


async def _describe(settings: Settings, prefix: str | None = None) -> StoreState:
    async with redis_repository(settings, prefix) as repository:
        return await repository.describe()


async def _open(settings: Settings, prefix: str) -> bool:
    async with redis_repository(settings, prefix) as repository:
        return await repository.open_generation()
