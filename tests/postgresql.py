"""A private PostgreSQL for tests: a cluster in a temporary directory, on loopback, stopped by its own process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import pytest

from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "session_ops"
_START_TIMEOUT = 20.0
_READY = b"ready to accept connections"


class PostgreSQLServer:
    """A PostgreSQL cluster. Loses its data with the process's machine (fsync is off), keeps it over `stop` and `kill`.

    Further server settings as keyword arguments.
    """

    def __init__(self, **settings: str | int) -> None:
        self.port = free_port()
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 60,
            "max_wal_size": "256MB",
            **settings,
        }
        # initdb refuses root, and root's temporary directories are closed to others.
        self._account: dict[str, Any] = {}
        self.directory = Path(tempfile.mkdtemp(prefix="session-ops-postgresql-"))
        if os.geteuid() == 0:
            self._account = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.directory, "postgres", "postgres")
        self._programs = _programs()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: list[bytes] = []
        self._run("initdb", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self.directory / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.directory, **self._account)

    def start(self) -> Self:
        """Start it and wait until it takes connections."""
        settings = {"port": self.port, "unix_socket_directories": self.directory, **self._settings}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self.directory / "data", *options],
            stderr=subprocess.PIPE,
            cwd=self.directory,
            **self._account,
        )
        ready = threading.Event()
        assert self._process.stderr is not None
        threading.Thread(target=self._listen, args=(self._process.stderr, ready), daemon=True).start()
        if not ready.wait(_START_TIMEOUT) or self._process.poll() is not None:
            raise RuntimeError(b"".join([b"PostgreSQL did not start\n", *self._said[-20:]]).decode())
        return self

    def _listen(self, said: IO[bytes], ready: threading.Event) -> None:
        for line in said:
            self._said.append(line)
            if _READY in line:
                ready.set()
        ready.set()

    def stop(self) -> None:
        """Stop it in order; its clients are disconnected."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop it as a crash does."""
        self._end(signal.SIGQUIT)

    def _end(self, signal_number: int) -> None:
        if self._process is not None:
            self._process.send_signal(signal_number)
            self._process.wait(_START_TIMEOUT)
            self._process = None

    def freeze(self) -> None:
        """Let every process of the server stand still, as a machine that is out of reach."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, signal_number: int) -> None:
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (pid, *map(int, children)):
            os.kill(process, signal_number)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.kill()
        shutil.rmtree(self.directory)


def _programs() -> Path:
    """Where Debian keeps the server's programs, which are not on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        raise RuntimeError("no PostgreSQL server programs: apt-get install postgresql")
    return Path(initdb).parent


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """One PostgreSQL for the run."""
    server = PostgreSQLServer().start()
    yield server
    server.remove()
