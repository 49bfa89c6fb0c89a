"""`session-ops serve --embedded`: the service, a private Redis and a legacy store in a file, for a laptop."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from session_ops.bump import bump
from session_ops.errors import SessionOpsError, SettingsError, StoreUnavailableError
from session_ops.logs import configure_logs
from session_ops.migration.prepare import Preparation
from session_ops.owned_access import OwnedStore, make_owned
from session_ops.redis_access import connect
from session_ops.serve.run import serve
from session_ops.stores.library import load_library

if TYPE_CHECKING:
    from collections.abc import Mapping

    from session_ops.settings import Settings

DEFAULT_DIRECTORY = ".session-ops"
LEGACY = "legacy.db"
LOG = "redis.log"
START_LIMIT = 10.0
"""Seconds that Redis gets to load its data."""


def serve_embedded(settings: Settings, environment: Mapping[str, str]) -> int:
    """Start a private redis-server in REDIS_DATA_DIR, serve from it and from a SQLite file beside it, and stop it at
    the end; the exit status.

    The sessions are kept there from one start to the next: each begins a generation, as after any restart of Redis. A
    token with all scopes is drawn, printed on stdout and forgotten. Raises `SettingsError` when Redis is not installed
    or does not start, and for a legacy database of the settings' own.
    """
    if settings.legacy_database_url:
        raise SettingsError("LEGACY_DATABASE_URL: `serve --embedded` brings a legacy store of its own; unset it")
    configure_logs(settings.session_log_level)
    directory = Path(settings.redis_data_dir or DEFAULT_DIRECTORY).absolute()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(directory)
    token = secrets.token_urlsafe(24)
    private = _private(settings, token, directory / LEGACY)
    server = _start(directory, private, lock)
    try:
        asyncio.run(_prepare(server, private, directory / LOG))
        click.echo(f"token: {token}")
        click.echo(f"try:   curl -H 'Authorization: Bearer {token}' http://{settings.session_listen}/v1/sessions")
        return serve(private, environment)
    finally:
        server.send_signal(signal.SIGTERM)  # Redis writes what is left and ends
        server.wait()


def _lock(directory: Path) -> int:
    """A lock that Redis inherits: two of them on the same files would ruin them, also when one is left over from a
    service that was killed. Raises `SettingsError`.
    """
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SettingsError(
            f"REDIS_DATA_DIR: {directory} is in use by another `serve --embedded` or its Redis"
        ) from None
    return lock


def _private(settings: Settings, token: str, legacy: Path) -> Settings:
    """The settings, turned to the private Redis, the file and the one token."""
    grant = {
        "caller": "embedded",
        "scopes": ["read", "write", "admin"],
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
    }
    return settings.replace(
        redis_host="127.0.0.1",
        redis_port=_free_port(),
        redis_db=0,
        redis_username="",
        redis_password=secrets.token_urlsafe(24),
        redis_tls=False,
        session_generation_prefix="",
        session_partitions=1,
        session_tokens=msgspec.json.encode([grant]).decode(),
        legacy_database_url=f"sqlite:///{legacy}",
        legacy_table="sessions",
        legacy_columns="",
    )


def _start(directory: Path, settings: Settings, lock: int) -> subprocess.Popen[bytes]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SettingsError("--embedded: redis-server is not installed (Debian: apt-get install redis-server)")
    configuration = "\n".join(
        (
            f"port {settings.redis_port}",
            "bind 127.0.0.1",
            f"requirepass {settings.redis_password}",
            f'dir "{directory}"',
            "appendonly yes",
            "maxmemory-policy noeviction",
            'save ""',
            f'logfile "{directory / LOG}"',
        )
    )
    server = subprocess.Popen(  # noqa: S603 - the program found above; the password goes through stdin, not argv
        [program, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
        pass_fds=(lock,),
    )
    if server.stdin is not None:
        server.stdin.write(configuration.encode())
        server.stdin.close()
    return server


async def _prepare(server: subprocess.Popen[bytes], settings: Settings, log: Path) -> None:
    """Wait until Redis answers, load the functions, make the tables and begin a generation."""
    connection = connect(settings)
    store = make_owned(settings, connection, lambda: settings.flag)
    try:
        async with asyncio.timeout(START_LIMIT):
            while server.poll() is None:
                try:
                    await load_library(connection)
                    break
                except StoreUnavailableError:  # not listening yet, or loading its data
                    await asyncio.sleep(0.02)
            await _begin(store, settings)
    except (TimeoutError, SessionOpsError) as error:
        if isinstance(error, TimeoutError) or (isinstance(error, StoreUnavailableError) and error.store == "redis"):
            raise SettingsError(f"--embedded: Redis did not start; {log} says why") from None
        raise SettingsError(f"--embedded: {error}; {log.with_name(LEGACY)} is its legacy store") from None
    finally:
        await store.close()
        await connection.close()


async def _begin(store: OwnedStore, settings: Settings) -> None:
    """Make what the file lacks, and begin a generation: a Redis that has been started anew is another one."""
    table, columns = settings.legacy_table, settings.legacy_columns
    await Preparation(store.database, table, columns, who="embedded", flag=settings.flag).run(execute=True)
    seen = await store.control_store.read()
    switched_off = seen.generation > 0 and seen.redis == "off"
    if seen.mode == "final" or switched_off:
        return
    address = f"{settings.redis_host}:{settings.redis_port}"
    # Nobody else holds a lease: the directory is locked
    lease = settings.session_lease
    await bump(
        store.control_store, seen, target=store.connection, address=address, partitions=1, lease=lease, lost=True
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
