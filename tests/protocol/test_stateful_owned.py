"""The owned store on real servers: random operations, flags, crashes and losses, checked after every step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.postgresql import PostgreSQLServer
from tests.protocol.stateful_machine import OwnedMachine
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = int(os.environ.get("EXAMPLES", "4"))
"""Of each database; `make stateful EXAMPLES=n` for more."""

BOUNDS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=10,
    deadline=None,
    database=None,
    derandomize="EXAMPLES" not in os.environ,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that is killed, frozen and cut."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQLServer]:
    """A PostgreSQL that is killed and frozen."""
    server = PostgreSQLServer().start()
    yield server
    server.remove()


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a bump waits beyond the lease covers statements that are under way: here they end within 0.24 s."""
    monkeypatch.setattr("session_ops.bump.BEYOND_LEASE", 0.1)


def test_no_write_is_lost_and_no_session_comes_back_on_postgresql(
    redis: RedisServer, postgresql: PostgreSQLServer
) -> None:
    machine = type("OnPostgreSQL", (OwnedMachine,), {"server": redis, "url": postgresql.url, "postgresql": postgresql})
    run_state_machine_as_test(machine, settings=BOUNDS)


def test_no_write_is_lost_and_no_session_comes_back_on_sqlite(redis: RedisServer, tmp_path: Path) -> None:
    machine = type("OnSQLite", (OwnedMachine,), {"server": redis, "url": f"sqlite:///{tmp_path}/sessions.db"})
    run_state_machine_as_test(machine, settings=BOUNDS)
