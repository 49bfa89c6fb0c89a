"""`session-ops generation`: what is in force, and the operator's own bump."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from session_ops.cli.frame import (
    HELD,
    PRECONDITION,
    as_json,
    execute,
    fail,
    note,
    owned_store,
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
    """Show, open or bump the generation of keys in Redis.

    A generation is one life of Redis on one server: its prefix stands in every key, so that the keys of a lost Redis
    are never looked at. Beside a legacy store a bump begins the next one, and gives every session back to the legacy
    store in constant time; without one a generation is opened once, by name.

    \b
    Examples:
      session-ops generation show --json
      session-ops generation open 1-7f3a9c --execute
      session-ops generation bump --execute
      session-ops generation bump --no-redis --execute
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
    if settings.legacy_database_url:
        shown = run(_show_owned(settings), settings)
        result(shown, lambda: _lines(shown), as_json=as_json)
        return
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
    if settings.legacy_database_url:
        fail("there is a legacy store: `session-ops generation bump` begins generations there", PRECONDITION)
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


@command.command("bump")
@click.option("--no-redis", is_flag=True, help="To no server: every session is the legacy store's, Redis is off.")
@execute
@as_json
def bump_(*, no_redis: bool, execute: bool, as_json: bool) -> None:
    """Begin the next generation on the Redis of the settings: enable it, or begin again after it was lost.

    Every session belongs to the legacy store from then on, and moves again when it is touched. It takes SESSION_LEASE
    and one second, in which requests for sessions that Redis owns may answer 503. With --no-redis it is the forced
    rollback, which works with Redis gone.

    \b
    Examples:
      session-ops generation bump --execute
      session-ops generation bump --no-redis --execute
    """
    settings = _with_legacy()
    if not execute:
        shown = run(_show_owned(settings), settings)
        where = "no server" if no_redis else f"{settings.redis_host}:{settings.redis_port}"
        says = f"generation {shown['generation']} would end, the next would begin on {where}; add --execute"
        result({"changed": True, "generation": shown["generation"] + 1}, lambda: says, as_json=as_json)
        return
    generation, prefix = run(begin_generation(settings, to_redis=not no_redis), settings)
    answer = {"changed": True, "generation": generation, "prefix": prefix}
    where = f"prefix {prefix}" if prefix else "without Redis"
    result(answer, lambda: f"generation {generation} begun, {where}", as_json=as_json)


@command.command()
@execute
@as_json
def cancel(*, execute: bool, as_json: bool) -> None:
    """Cancel a bump that is under way: the generation in force stays.

    \b
    Example:
      session-ops generation cancel --execute
    """
    settings = _with_legacy()
    shown = run(_show_owned(settings), settings)
    under_way = shown["closing"] is not None
    if execute and under_way:
        under_way = run(_cancel(settings, shown["generation"]), settings)
    done = "cancelled" if execute else "would be cancelled; add --execute"
    says = f"the bump of generation {shown['generation']} {done}" if under_way else "no bump is under way"
    result({"changed": under_way, "generation": shown["generation"]}, lambda: says, as_json=as_json)


def _with_legacy() -> Settings:
    settings = settings_or_exit()
    if not settings.legacy_database_url:
        fail("LEGACY_DATABASE_URL: not set; without a legacy store Redis alone keeps the sessions", PRECONDITION)
    return settings


async def _show_owned(settings: Settings) -> dict[str, Any]:
    async with owned_store(settings) as store:
        row = await store.control_store.read()
        hosts = await store.control_store.hosts(settings.session_lease)
        await store.steps.control()
        redis = await store.describe_redis()
        shown = msgspec.to_builtins(row)
        shown["redis_state"] = redis.reason or redis.state
        shown["hosts"] = msgspec.to_builtins(hosts)
        return dict(shown)


async def begin_generation(settings: Settings, *, to_redis: bool) -> tuple[int, str | None]:
    """The operator's bump, to the Redis of the settings or to no server: the new generation, and its prefix."""
    from session_ops.bump import BumpRefusedError, bump  # noqa: PLC0415 - not needed for --help
    from session_ops.logs import configure_logs  # noqa: PLC0415

    configure_logs(settings.session_log_level)

    async with owned_store(settings) as store:
        seen = await store.control_store.read()
        click.echo(f"waiting {settings.session_lease + 1:g} s for the hosts' leases to end", err=True)
        try:
            prefix = await bump(
                store.control_store,
                seen,
                target=store.connection if to_redis else None,
                address=f"{settings.redis_host}:{settings.redis_port}",
                partitions=settings.session_partitions,
                lease=settings.session_lease,
            )
        except BumpRefusedError as error:
            fail(f"generation {seen.generation} stands: {error}; `session-ops generation show` says which", HELD)
        await note(settings, "bump", generation=seen.generation + 1, prefix=prefix)
        return seen.generation + 1, prefix


async def _cancel(settings: Settings, generation: int) -> bool:
    async with owned_store(settings) as store:
        cancelled = await store.control_store.cancel(generation)
        if cancelled:
            await note(settings, "bump cancelled", generation=generation)
        return cancelled


def _lines(shown: dict[str, Any]) -> str:
    """The control row, then a line for each serving process."""
    names = [name for name in shown if name != "hosts"]
    lines = [f"{name:<12} {shown[name] if shown[name] not in (None, '', []) else '-'}" for name in names]
    for host in shown["hosts"]:
        age = (shown["now"] - host["seen_at"]) / 1000
        bad = host["redis_bad_since"]
        redis = "good" if bad is None else f"bad for {(shown['now'] - bad) / 1000:.1f} s"
        flag = f"{'on' if host['use_redis'] else 'off'} {host['percent']} %"
        seen = "live" if host["live"] else f"last seen {age:.0f} s ago"
        lines.append(
            f"host         {host['host']}:{host['pid']}  {seen}  flag {flag}  generation {host['generation']}"
            f"  redis {redis}  release {host['release']}"
        )
    return "\n".join(lines)
