"""Private real servers for tests: started on loopback in a temporary directory, stopped by their own process id."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Self

from session_ops.stores.acl import DEFAULT_ACL, SERVICE_ACL

UNPACKED = Path(__file__).parents[1] / ".cache" / "servers"
"""Where `scripts/bootstrap test` unpacks the servers of Debian releases other than this machine's."""

# What a host may run: the release that carries it, its program, and what its --version says
PROGRAMS = {
    "redis-7.0": ("bookworm", "redis-server", "v=7.0."),
    "redis-8.0": ("trixie", "redis-server", "v=8.0."),
    "valkey-8.1": ("trixie", "valkey-server", "v=8.1."),
}
DEFAULT_PROGRAM = "redis-7.0"

SERVICE_USER = "session-service"
SERVICE_PASSWORD = "the service's password in tests"
ADMINISTRATOR = "administrator"
ADMINISTRATOR_PASSWORD = "the administrator's password in tests"

_START_TIMEOUT = 10.0


def free_port() -> int:
    """A loopback port that was free just now, and that nobody takes while its server is down.

    It is below those that the system gives to outgoing connections (from 32768), and each worker of pytest-xdist has a
    range of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    low = 12000 + 2000 * (worker % 10)
    while True:
        port = random.SystemRandom().randrange(low, low + 2000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@cache
def command_of(program: str) -> tuple[str, ...]:
    """The command that starts one of `PROGRAMS`: this machine's own, else the unpacked one with its own libraries."""
    release, name, version = PROGRAMS[program]
    own = shutil.which(name)
    candidates = [(own,)] if own else []
    for loader in sorted((UNPACKED / release / "usr" / "lib").glob("*/ld-linux*.so.*")):
        file = UNPACKED / release / "usr" / "bin" / name
        candidates.append((str(loader), "--library-path", str(loader.parent), str(file)))
    for command in candidates:
        if version in subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout:
            return command
    raise RuntimeError(f"no {program} on this machine: run scripts/bootstrap test")


class RedisServer:
    """A redis-server as on a host: aclfile, append-only file, noeviction, the service's and an administrator's user.

    `program` is one of `PROGRAMS`. Further directives as keyword arguments, "_" for "-".
    """

    def __init__(self, directory: Path, program: str = DEFAULT_PROGRAM, **settings: str | int) -> None:
        self.directory = directory
        self._command = command_of(program)
        self.port = free_port()
        self._settings = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "4096",
            "enable-debug-command": "no",
            "repl-diskless-sync-delay": "0",
            **{name.replace("_", "-"): str(value) for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        users = self.directory / "users.acl"
        users.write_text(
            f"user default {DEFAULT_ACL}\n"
            f"user {ADMINISTRATOR} on {_hash(ADMINISTRATOR_PASSWORD)} ~* &* +@all\n"
            f"user {SERVICE_USER} on {_hash(SERVICE_PASSWORD)} {SERVICE_ACL}\n"
        )
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "aclfile": str(users),
            "logfile": str(self.directory / "redis.log"),
            **self._settings,
        }
        configuration = self.directory / "redis.conf"
        configuration.write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))
        self._process = subprocess.Popen([*self._command, str(configuration)])
        self._await_start()
        return self

    def _await_start(self) -> None:
        limit = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < limit:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 0.2) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"-NOAUTH"):
                        return
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError(f"redis-server did not start: {(self.directory / 'redis.log').read_text()}")

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None


def _hash(password: str) -> str:
    return "#" + hashlib.sha256(password.encode()).hexdigest()
