"""The legacy store against the model that Redis is held to, with concurrent clients on real databases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, run_state_machine_as_test

from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_database import Database
from tests.integration.stores.test_stateful import Repositories

if TYPE_CHECKING:
    from session_ops.stores.redis import RedisSessionRepository


class LegacyRepositories(Repositories):
    """Three clients with pools of their own."""

    url: str

    @initialize()
    def open(self) -> None:
        async def prepare() -> None:
            async with self.databases[0].engine.connect() as connection:
                await connection.exec_driver_sql("DELETE FROM sessions")
                await connection.exec_driver_sql("UPDATE session_counters SET value = 0")

        self.databases = [Database(self.url, deadline=5, pool_size=2) for _ in range(3)]
        clients = [LegacySessionRepository(database) for database in self.databases]
        self.clients = cast("list[RedisSessionRepository]", clients)
        self.run(prepare())

    def teardown(self) -> None:
        async def close() -> None:
            await asyncio.gather(*[database.close() for database in self.databases])

        if hasattr(self, "databases"):
            self.run(close())
        self.loop.close()


@pytest.fixture(params=["postgresql_url", "sqlite_url"])
def machine(request: pytest.FixtureRequest) -> type[LegacyRepositories]:
    return type("Machine", (LegacyRepositories,), {"url": request.getfixturevalue(request.param)})


def test_concurrent_clients_agree_with_a_dictionary(machine: Any) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
