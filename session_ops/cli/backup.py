"""`session-ops backup`: backups of the Redis on this host, and how they stand."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from session_ops.backup.configuration import DEFAULT, Configuration, read_configuration
from session_ops.cli.frame import HELD, MISMATCH, PRECONDITION, REDIS_UNREACHABLE, USAGE, as_json, execute, fail, result
from session_ops.errors import HeldError, PreconditionError, SettingsError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from session_ops.backup.proof import Proof
    from session_ops.backup.status import Status

_configured = click.option(
    "--configuration",
    type=click.Path(path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="What playbooks/backup.yml has written.",
)


@click.group("backup")
def command() -> None:
    """Make backups of the Redis on this host, look at them, prove them.

    A backup is a snapshot that was loaded into a private Redis and compared, then encrypted to a public key and stored
    elsewhere. A timer makes one every quarter of an hour; docs/backup.md tells the rest.

    \b
    Examples:
      session-ops backup status               how old is the last one, and is one spoilt?
      session-ops backup take --execute       one now (or: systemctl start session-backup)
      session-ops backup check --execute      read every one at its destination to its end
      session-ops backup verify NAME --identity backup.key --from /mnt/backups
    """


@contextmanager
def _codes() -> Iterator[None]:
    """Errors as exit codes and one line each."""
    from session_ops.backup.scratch import SpoiltError  # noqa: PLC0415 - not needed for --help

    try:
        yield
    except SettingsError as error:
        fail(str(error), USAGE)
    except HeldError as error:
        fail(str(error), HELD)
    except StoreUnavailableError as error:
        fail(f"{error}; see that it runs on this host: systemctl status redis-server", REDIS_UNREACHABLE)
    except SpoiltError as error:
        fail(str(error), MISMATCH)
    except PreconditionError as error:
        fail(str(error), PRECONDITION)


@command.command()
@_configured
@click.option("--password-file", help="The administrator's password, where the unit keeps it.")
@execute
@as_json
def take(configuration: Path, password_file: str | None, *, execute: bool, as_json: bool) -> None:
    """Make a backup, prove it, and let old ones go. Exit code 5: made, but one at the destination is spoilt.

    \b
    Example:
      session-ops backup take --execute
    """
    from session_ops.backup.take import Backup  # noqa: PLC0415 - not needed for --help

    with _codes():
        settings = read_configuration(configuration)
        if password_file:
            settings = msgspec.structs.replace(settings, password_file=password_file)
        backup = Backup(settings, step=lambda step: click.echo(step, err=True))
        if not execute:
            with backup.connect() as redis:
                keys = redis.call("DBSIZE")
            there = len(backup.destination.sizes())
            click.echo(f"Redis has {keys:,} keys; {settings.destination} has {there} files\n"
                       "-- nothing was changed; add --execute")  # fmt: skip
            return
        done = backup.take()
    result(done, lambda: _lines(done), as_json=as_json)
    if done.spoilt:
        fail(f"spoilt: {'; '.join(done.spoilt)}", MISMATCH)


@command.command()
@_configured
@execute
@as_json
def check(configuration: Path, *, execute: bool, as_json: bool) -> None:
    """Read every backup at the destination to its end, and note which are spoilt (exit code 5).

    \b
    Example:
      session-ops backup check --execute
    """
    from session_ops.backup.take import Backup  # noqa: PLC0415 - not needed for --help

    with _codes():
        backup = Backup(read_configuration(configuration))
        if not execute:
            click.echo(f"{len(backup.destination.sizes())} files\n-- nothing was read; add --execute")
            return
        done = backup.check()
    result(done, lambda: _lines(done), as_json=as_json)
    if done.spoilt:
        fail(f"spoilt: {'; '.join(done.spoilt)}", MISMATCH)


@command.command()
@_configured
@as_json
def status(configuration: Path, *, as_json: bool) -> None:
    """Show the last backup and what is wrong: exit code 3, or 5 where one is spoilt.

    \b
    Example:
      session-ops backup status --json
    """
    from session_ops.backup.status import read_status  # noqa: PLC0415 - not needed for --help

    with _codes():
        settings: Configuration = read_configuration(configuration)
        found = read_status(settings)
    problems = found.problems(settings.interval, time.time())
    shown = msgspec.to_builtins(found) | {"problems": problems}
    result(shown, lambda: "\n".join((_lines(found), *problems)), as_json=as_json)
    if problems:
        raise click.exceptions.Exit(MISMATCH if found.spoilt else PRECONDITION)


@command.command()
@click.argument("name")
@click.option("--identity", type=click.Path(path_type=Path), required=True, help="age's private key.")
@click.option("--from", "place", required=True, help="Where the backups are, as rclone names it.")
@click.option("--rclone", default="", help="rclone's configuration file, where PLACE needs one.")
@click.option("--program", default="redis-server", show_default=True, help="Server that loads it.")
@as_json
def verify(*, name: str, identity: Path, place: str, rclone: str, program: str, as_json: bool) -> None:
    """Decrypt a backup, load it, and compare it with its manifest; where the private key is, so on no Redis host.

    \b
    Example:
      session-ops backup verify sessions-redis1-20261128T093000Z --identity backup.key --from /mnt/backups
    """
    from session_ops.backup.destination import Destination  # noqa: PLC0415 - not needed for --help
    from session_ops.backup.proof import prove  # noqa: PLC0415

    with _codes():
        proof = prove(Destination(place, rclone), name, identity, program.split())
    result(proof, lambda: _proved(proof), as_json=as_json)


def _proved(proof: Proof) -> str:
    contents = proof.manifest.contents
    return (
        f"{proof.manifest.name}: {contents.sessions:,} sessions in {contents.keys:,} keys, mode {proof.manifest.mode}\n"
        f"-- it loads, and is what its manifest says; {proof.compared:,} sessions have not ended since"
    )


def _lines(status: Status) -> str:
    last = status.last
    lines = [f"not this host's turn: {status.passed}"] if status.passed else []
    if last is None:
        return "\n".join((*lines, "no backup yet"))
    age = max(0.0, time.time() - last.at / 1000)
    return "\n".join((
        *lines,
        f"last    {last.name}, {age / 60:,.0f} min ago",
        f"holds   {last.sessions:,} sessions, {last.bytes:,} bytes, mode {last.mode}, made in {last.seconds:g} s",
        f"kept    {status.kept}, {len(status.spoilt)} of them spoilt",
    ))  # fmt: skip
