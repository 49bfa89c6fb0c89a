"""`session-ops sessions`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

import click
import msgspec

from session_ops.cli.frame import (
    PRECONDITION,
    as_json,
    execute,
    fail,
    repository,
    result,
    run,
    settings_or_exit,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.records import Session
    from session_ops.settings import Settings
    from session_ops.stores.contract import SessionRepository


class IdCommand(click.Command):
    """Takes an id that begins with a dash, as one in 64 does, for an id and not for options. Its options are flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put what is no known option behind the end of options."""
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        options = [argument for argument in args if argument in known]
        return super().parse_args(ctx, [*options, "--", *(each for each in args if each not in known)])


@click.group("sessions")
def command() -> None:
    """Look at sessions, and end them. Looking does not count as a use.

    \b
    Examples:
      session-ops sessions list --user alice
      session-ops sessions show 3q2-7wAhbZ
      session-ops sessions revoke alice --execute
    """


@command.command("list")
@click.option("--user", help="Only this user's.")
@click.option("--agent", help="Only this agent's.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Length of the page.")
@click.option("--cursor", help="Go on where the page before ended.")
@click.option("--order", type=click.Choice(["newest", "oldest"]), default="newest", show_default=True, help="First.")
@as_json
def list_(*, user: str | None, agent: str | None, limit: int, cursor: str | None, order: str, as_json: bool) -> None:
    """List live sessions, by creation.

    \b
    Example:
      session-ops sessions list --user alice --limit 10 --json
    """
    page = _ask(
        lambda sessions: sessions.list_sessions(
            user_id=user,
            agent_id=agent,
            cursor=cursor,
            limit=limit,
            order=cast("Literal['newest', 'oldest']", order),
        )
    )

    def lines() -> str:
        text = [_line(session) for session in page.sessions]
        if page.cursor:
            text.append(f"more: --cursor {page.cursor}")
        return "\n".join(text) or "no sessions"

    result(page, lines, as_json=as_json)


@command.command(cls=IdCommand)
@click.argument("session_id")
@as_json
def show(session_id: str, *, as_json: bool) -> None:
    """Show one session with its data.

    \b
    Example:
      session-ops sessions show 3q2-7wAhbZ
    """
    session = _ask(lambda sessions: _whole(sessions, session_id))
    if session is None:
        fail("no live session has this id", PRECONDITION)
    text = msgspec.json.format(msgspec.json.encode(session), indent=2).decode()
    result(session, lambda: text, as_json=as_json)


@command.command(cls=IdCommand)
@click.argument("session_id")
@execute
@as_json
def delete(session_id: str, *, execute: bool, as_json: bool) -> None:
    """End one session.

    \b
    Example:
      session-ops sessions delete 3q2-7wAhbZ --execute
    """
    if execute:
        ended = _ask(lambda sessions: sessions.delete(session_id))
        result({"changed": ended}, lambda: "ended" if ended else "no live session has this id", as_json=as_json)
        return
    session = _ask(lambda sessions: sessions.get(session_id))
    says = "would end it; add --execute" if session else "no live session has this id"
    result({"changed": session is not None}, lambda: says, as_json=as_json)


@command.command()
@click.argument("user")
@execute
@as_json
def revoke(user: str, *, execute: bool, as_json: bool) -> None:
    """End all sessions of USER.

    \b
    Example:
      session-ops sessions revoke alice --execute
    """
    if execute:
        ended = _ask(lambda sessions: sessions.delete_user(user))
        result({"changed": ended > 0, "deleted": ended}, lambda: f"ended {ended}", as_json=as_json)
        return
    number = _ask(lambda sessions: _count(sessions, user))
    says = f"would end {number}; add --execute"
    result({"changed": number > 0, "deleted": number}, lambda: says, as_json=as_json)


@command.command()
@as_json
def stats(*, as_json: bool) -> None:
    """Show how many sessions are live, and the counters since the store was opened.

    \b
    Example:
      session-ops sessions stats --json
    """
    statistics = msgspec.to_builtins(_ask(lambda sessions: sessions.statistics()))
    result(statistics, lambda: "\n".join(f"{name:<8} {value}" for name, value in statistics.items()), as_json=as_json)


def _ask(question: Callable[[SessionRepository], Awaitable[Any]]) -> Any:
    settings = settings_or_exit()
    return run(_with_repository(settings, question), settings)


async def _with_repository(settings: Settings, question: Callable[[SessionRepository], Awaitable[Any]]) -> Any:
    async with repository(settings) as sessions:
        return await question(sessions)


async def _whole(sessions: SessionRepository, session_id: str) -> Session | None:
    session = await sessions.get(session_id)
    if session is not None:
        session.data  # noqa: B018 - decodes it, so that it can be shown
    return session


async def _count(sessions: SessionRepository, user: str) -> int:
    number, cursor = 0, None
    while True:
        page = await sessions.list_sessions(user_id=user, cursor=cursor, limit=1000)
        number += len(page.sessions)
        cursor = page.cursor
        if cursor is None:
            return number


def _line(session: Session) -> str:
    created, expires = (
        datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds")
        for at in (session.created_at, session.expires_at)
    )
    return (
        f"{session.id}  user={session.user_id}  agent={session.agent_id or '-'}  created={created}  expires={expires}"
    )
