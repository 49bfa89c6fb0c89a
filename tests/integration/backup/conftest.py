"""A Redis with sessions, a pair of age's keys, and backups of it into a directory."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from session_ops.backup.configuration import Configuration
from session_ops.backup.take import Backup
from session_ops.records import NewSession
from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection, service_connection
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, DEFAULT_PROGRAM, RedisServer, command_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SESSIONS = 40
HOST = "redis1"


class Rig:
    """All that a backup takes, below one directory."""

    def __init__(self, directory: Path, program: str = DEFAULT_PROGRAM, **settings: str | int) -> None:
        self.directory = directory
        self.socket = directory / "r.sock"
        self.redis = RedisServer(directory / "redis", program, unixsocket=str(self.socket), **settings).start()
        self.identity = directory / "backup.key"
        subprocess.run(["age-keygen", "-o", self.identity], check=True, capture_output=True)
        shown = subprocess.run(["age-keygen", "-y", self.identity], check=True, capture_output=True, text=True)
        self.store = directory / "store"
        self.store.mkdir()
        password = directory / "administrator.password"
        password.write_text(ADMINISTRATOR_PASSWORD + "\n")
        self.configuration = Configuration(
            socket=str(self.socket),
            user=ADMINISTRATOR,
            password_file=str(password),
            program=" ".join(command_of(program)),
            recipients=(shown.stdout.strip(),),
            destination=str(self.store),
            rclone="",
            directory=str(directory / "state"),
            metrics=str(directory / "backup.prom"),
            interval=900,
            keep=3,
            keep_days=2,
        )
        asyncio.run(self._fill())

    async def _fill(self) -> None:
        administrator = administrator_connection(self.redis)
        await load_library(administrator)
        await administrator.close()
        connection = service_connection(self.redis)
        repository = RedisSessionRepository(connection, prefix="1-backup")
        await repository.open_generation()
        for number in range(SESSIONS):
            await repository.create(NewSession(user_id="ann", data={"number": number}, id=f"s{number}"))
        await connection.close()

    def backup(self, **changes: Any) -> Backup:
        """Backups with other settings than `configuration`."""
        return Backup(msgspec.structs.replace(self.configuration, **changes), host=HOST)

    def command(self, *words: str | bytes | int) -> Any:
        """A command of the administrator."""
        with self.backup().connect() as redis:
            return redis.call(*words)

    def files(self, kind: str) -> list[Path]:
        """What is stored, oldest first."""
        return sorted(self.store.glob(f"*{kind}"))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.redis.stop()
