"""`session-ops flag`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from session_ops.cli.frame import PRECONDITION, USAGE, as_json, execute, fail, note, result, settings_or_exit
from session_ops.settings import Flag, read_flag

if TYPE_CHECKING:
    from session_ops.settings import Settings

UNIT = "session-service.service"


@click.group("flag")
def command() -> None:
    """Show or set this host's flag: whether sessions have their home in Redis, and which share of them.

    The flag decides only in which direction sessions move. Any mix of flags in a fleet is correct at every instant.

    \b
    Examples:
      session-ops flag show
      session-ops flag set --percent 10 --execute --reload
      session-ops flag set --off --execute --reload
    """


@command.command()
@as_json
def show(*, as_json: bool) -> None:
    """Show the flag as it stands in SESSION_FLAG_FILE; a service has it in force after its next reload.

    \b
    Example:
      session-ops flag show --json
    """
    settings = settings_or_exit()
    answer = _fields(settings.flag) | {"file": settings.session_flag_file or None}
    result(answer, lambda: "\n".join(f"{name:<22} {value}" for name, value in answer.items()), as_json=as_json)


@command.command("set")
@click.option("--on/--off", "on", default=None, help="Sessions have their home in Redis, or in the legacy store.")
@click.option("--percent", type=click.IntRange(0, 100), help="Share of the sessions that the flag is for.")
@click.option("--reload", "reload_", is_flag=True, help=f"Have {UNIT} read it now.")
@execute
@as_json
def set_(*, on: bool | None, percent: int | None, reload_: bool, execute: bool, as_json: bool) -> None:
    """Set this host's flag. What is not given stays; --percent alone turns the flag on.

    \b
    Examples:
      session-ops flag set --percent 1 --execute --reload
      session-ops flag set --off --execute --reload
    """
    settings = settings_or_exit()
    if on is None and percent is None:
        raise click.UsageError("give --on, --off or --percent")
    path = settings.session_flag_file
    if not path:
        fail("SESSION_FLAG_FILE: not set; a flag in the environment is changed there, with a restart", USAGE)
    before = settings.flag
    wanted = Flag(
        use_redis_sessions=on if on is not None else True,
        session_redis_percent=before.session_redis_percent if percent is None else percent,
    )
    answer = _fields(wanted) | {"changed": wanted != before, "before": _said(before), "after": _said(wanted)}
    if not execute:
        says = "would be set; add --execute" if wanted != before else "is set already"
        result(answer, lambda: f"{_said(wanted)} {says}", as_json=as_json)
        return
    if wanted != before:
        _write(path, wanted, settings)
        if settings.legacy_database_url:
            asyncio.run(note(settings, "flag set", before=_said(before), now=_said(wanted)))
    if reload_:
        _reload()
    result(answer, lambda: f"{_said(wanted)} {'set' if wanted != before else 'was set already'}", as_json=as_json)


def _fields(flag: Flag) -> dict[str, bool | int | str | None]:
    return {"use_redis_sessions": flag.use_redis_sessions, "session_redis_percent": flag.session_redis_percent}


def _said(flag: Flag) -> str:
    return (
        f"USE_REDIS_SESSIONS={str(flag.use_redis_sessions).lower()} SESSION_REDIS_PERCENT={flag.session_redis_percent}"
    )


def _write(path: str, flag: Flag, settings: Settings) -> None:
    """Put a new file in the old one's place, with its owner and mode: a reader sees one or the other, whole."""
    target = Path(path)
    try:
        before = target.stat()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write("\n".join(_said(flag).split()) + "\n")
            stream.flush()
            os.fchmod(handle, before.st_mode & 0o777)
            os.fchown(handle, before.st_uid, before.st_gid)
            os.fsync(handle)
        Path(name).replace(target)
    except OSError as error:
        fail(f"SESSION_FLAG_FILE: cannot write {path}: {error.strerror}; run this as root", PRECONDITION)
    if read_flag(path, settings.flag) != flag:
        fail(f"SESSION_FLAG_FILE: {path} does not say what was written", PRECONDITION)


def _reload() -> None:
    command = ["systemctl", "reload", UNIT]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - a fixed command
    except OSError as error:
        fail(f"cannot run systemctl: {error.strerror}", PRECONDITION)
    if done.returncode != 0:
        fail(f"{UNIT} was not reloaded: {done.stderr.strip()}", PRECONDITION)
