"""A private redis-server that loads a backup to prove it: on a Unix socket in a closed directory, without a port."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from session_ops.backup.local import LocalRedis
from session_ops.errors import PreconditionError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LOAD_LIMIT: Final = 1_800.0
"""Seconds that a load may take; Redis loads some 300,000 sessions per second."""
SOCKET: Final = "redis.sock"


class SpoiltError(PreconditionError):
    """A backup cannot be loaded, or holds something else than it should."""


@contextmanager
def loaded(snapshot: Path, program: Sequence[str]) -> Iterator[LocalRedis]:
    """A server with the snapshot in its memory, ended afterwards. The snapshot's directory is the server's own: nobody
    else may enter it.

    Raises `SpoiltError` where the snapshot cannot be loaded, with the server's own words.
    """
    directory = snapshot.parent
    log = directory / "redis.log"
    server = subprocess.Popen(  # noqa: S603 - no shell
        [
            *(*program, "--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700"),
            *("--dir", str(directory), "--dbfilename", snapshot.name, "--appendonly", "no", "--save", ""),
            *("--logfile", str(log), "--daemonize", "no", "--maxmemory", "0", "--hz", "1"),
        ],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
    )
    try:
        with _answering(server, directory / SOCKET, log) as redis:
            yield redis
    finally:
        server.kill()
        server.wait()


def _answering(server: subprocess.Popen[bytes], path: Path, log: Path) -> LocalRedis:
    limit = time.monotonic() + LOAD_LIMIT
    while server.poll() is None and time.monotonic() < limit:
        with suppress(StoreUnavailableError):
            redis = LocalRedis(str(path))
            answer = redis.many([("PING",)])[0]
            if answer == b"PONG":
                return redis
            redis.close()  # it loads
        time.sleep(0.05)
    said = log.read_text(errors="replace").splitlines()[-6:] if log.exists() else []
    raise SpoiltError("the snapshot cannot be loaded: " + " | ".join(line.partition(" # ")[2] or line for line in said))
