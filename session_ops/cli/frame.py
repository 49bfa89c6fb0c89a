"""What all commands share: settings from the environment, results and failures as the exit codes say."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
import msgspec

from session_ops.errors import (
    HeldError,
    MismatchError,
    PreconditionError,
    SessionOpsError,
    SettingsError,
    StageConflictError,
    StoreNotEmptyError,
    StoreUnavailableError,
    UnfinishedError,
)
from session_ops.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from session_ops.owned_access import OwnedStore
    from session_ops.stores.contract import Leading
    from session_ops.stores.redis import RedisSessionRepository

USAGE, PRECONDITION, HELD, MISMATCH, LEGACY_UNREACHABLE, REDIS_UNREACHABLE, UNFINISHED = 2, 3, 4, 5, 6, 7, 8

Result = TypeVar("Result")

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
execute = click.option("--execute", is_flag=True, help="Do it; without this, only say what would be done.")


def fail(message: str, exit_code: int) -> NoReturn:
    """End the program with one line on stderr and an exit code."""
    click.echo(f"session-ops: {message}", err=True)
    raise click.exceptions.Exit(exit_code)


def settings_or_exit() -> Settings:
    """The settings of this process' environment; exits with 2 and one line when something is wrong."""
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        fail(str(error), USAGE)


def operator(settings: Settings) -> str:
    """Who is at work, USER@HOST: SESSION_OPERATOR, or the login, which sudo has noted."""
    name = settings.session_operator or os.environ.get("SUDO_USER") or getpass.getuser()
    return f"{name}@{socket.gethostname()}"


def result(value: Any, lines: Callable[[], str], *, as_json: bool) -> None:
    """Print a result for a program or for a person."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        sys.stdout.buffer.flush()
    else:
        click.echo(lines())


@asynccontextmanager
async def owned_store(settings: Settings) -> AsyncIterator[OwnedStore]:
    """Both stores of the settings, for the time of a command. The flag is the one in the settings."""
    from session_ops.owned_access import make_owned  # noqa: PLC0415 - not needed for --help
    from session_ops.redis_access import connect  # noqa: PLC0415

    connection = connect(settings)
    store = make_owned(settings, connection, lambda: settings.flag)
    try:
        yield store
    finally:
        await store.close()
        await connection.close()


@asynccontextmanager
async def repository(settings: Settings) -> AsyncIterator[Leading]:
    """The repository of the settings, whoever owns the sessions, for the time of a command."""
    if settings.legacy_database_url:
        async with owned_store(settings) as store:
            yield store.repository
    else:
        if not settings.session_generation_prefix:
            fail("SESSION_GENERATION_PREFIX: not set; it names the generation whose sessions are meant", USAGE)
        async with redis_repository(settings) as redis:
            yield redis


@asynccontextmanager
async def redis_repository(settings: Settings, prefix: str | None = None) -> AsyncIterator[RedisSessionRepository]:
    """The repository of the settings, for the time of a command."""
    from session_ops.redis_access import connect, make_repository  # noqa: PLC0415 - not needed for --help

    connection = connect(settings)
    try:
        yield make_repository(settings, connection, prefix)
    finally:
        await connection.close()


async def note(settings: Settings, what: str, **detail: Any) -> None:
    """Tell the audit of what has been done. Where it cannot be told the work stands, and stderr says so: what an
    operator does in an outage must not fail for it.
    """
    from session_ops.migration.audit import Audit  # noqa: PLC0415 - not needed for --help
    from session_ops.stores.control_schema import ControlSchema  # noqa: PLC0415
    from session_ops.stores.legacy_database import Database  # noqa: PLC0415

    database = Database(settings.legacy_database_url, pool_size=1)
    schema = ControlSchema(settings.legacy_table.rpartition(".")[0])
    try:
        await Audit(database, schema, operator(settings)).add(what, **detail)
    except StoreUnavailableError as error:
        click.echo(f"session-ops: {what}: done, but not noted in the audit ({error})", err=True)
    finally:
        await database.close()


def run(work: Coroutine[Any, Any, Result], settings: Settings) -> Result:
    """Run a command's work; a store's errors become exit codes and one line with the next step."""
    try:
        return asyncio.run(work)
    except StoreUnavailableError as error:
        if error.store == "legacy":
            fail(f"{error}; check LEGACY_DATABASE_URL and the database's own log", LEGACY_UNREACHABLE)
        where = f"{settings.redis_host}:{settings.redis_port}, as {settings.redis_username or 'default'}"
        fail(f"{error} (Redis at {where}); `session-ops generation show` looks closer", REDIS_UNREACHABLE)
    except SettingsError as error:
        fail(str(error), USAGE)
    except PreconditionError as error:
        for reason in error.reasons[:-1]:
            click.echo(f"session-ops: {reason}", err=True)
        fail(error.reasons[-1], PRECONDITION)
    except (HeldError, StageConflictError) as error:
        fail(str(error), HELD)
    except MismatchError as error:
        fail(str(error), MISMATCH)
    except UnfinishedError as error:
        fail(str(error), UNFINISHED)
    except StoreNotEmptyError as error:
        fail(str(error), PRECONDITION)
    except SessionOpsError as error:
        fail(str(error) or type(error).__name__, PRECONDITION)
