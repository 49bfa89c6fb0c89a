"""A fleet for the doctor: a real Redis and a real database, 200 sessions in Redis, and a host that reports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from click.testing import CliRunner

from session_ops.cli import main
from session_ops.migration.stages import Stages
from session_ops.release import current_release
from session_ops.settings_table import SETTINGS
from tests.integration.migration.application import Application
from tests.integration.migration.moving import Migration
from tests.integration.migration.test_move_cli import settings_of
from tests.owned import as_administrator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import RedisServer

MAXMEMORY = "268435456"
LIVE = 2**50
"""When a host was last seen: it counts as live for long after this test."""


BUSY = {"redis-slow", "legacy-slow"}
"""Warnings that are a busy machine's, where a test is not about them."""


def findings_of(done: Any, *, ignored: frozenset[str] | set[str] = BUSY) -> tuple[int, dict[str, str]]:
    """The exit code of a doctor, and what was found: its name and what was seen."""
    findings = msgspec.json.decode(done.stdout)["findings"]
    return done.exit_code, {each["name"]: each["says"] for each in findings if each["name"] not in ignored}


class Patient:
    """One fleet. `environment` is that of the host from which it is examined; `spoil` it, look, and `heal` it."""

    def __init__(self, directory: Path, server: RedisServer) -> None:
        self.directory = directory
        self.server = server
        self.url = f"sqlite:///{directory}/application.db"
        application = Application(self.url, None)
        self.settings = settings_of(application, server)
        self.environment = dict(self.settings)
        asyncio.run(self._make(application))
        self.prefix = str(self.sql("SELECT prefix FROM session_control")[0][0])

    async def _make(self, application: Application) -> None:
        migration = await Migration(application, self.server).open(rows=200)
        stages = Stages(application.database, migration.store.control_schema, "ann@app1")
        await stages.begin("100")
        outcome = await migration.move()
        await stages.end("100", "reached", run_id=outcome.run_id)
        await report_live(migration)
        await migration.close()
        await application.database.close()
        await as_administrator(self.server, "CONFIG", "SET", "maxmemory", MAXMEMORY)

    def redis(self, *command: str) -> Any:
        """A command of Redis' administrator."""
        return asyncio.run(as_administrator(self.server, *command))

    def sql(self, *statements: str) -> Any:
        """Statements on the database; the rows of the last."""

        async def run() -> Any:
            application = Application(self.url, None)
            try:
                return await application.sql(*statements)
            finally:
                await application.database.close()

        return asyncio.run(run())

    def doctor(self, *arguments: str, **changes: str) -> Any:
        """What the command does, in the environment with these changes."""
        environment = {row.name: None for row in SETTINGS} | self.environment | changes
        return CliRunner().invoke(main, ("doctor", *arguments), env=environment)

    def found(self, **changes: str) -> tuple[int, dict[str, str]]:
        """The exit code, and what was found: its name and what was seen."""
        return findings_of(self.doctor("--json", **changes))


async def report_live(migration: Migration) -> None:
    """A host that has reported, and is live."""
    await migration.sql(
        "INSERT INTO session_hosts (host, pid, release, use_redis, percent, started_at, seen_at, generation, mode,"
        f" redis_good_at, redis_good_since) SELECT 'app1', 7, '{current_release()}', TRUE, 100, 1, {LIVE}, generation,"
        f" mode, {LIVE}, 1 FROM session_control"
    )
