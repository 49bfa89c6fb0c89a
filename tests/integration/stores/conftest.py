"""The stores below the suites here: every program that a Redis host may run, and the contract suite's SQL stores."""

from __future__ import annotations

import pytest

from tests.contract.legacy_backend import postgresql, postgresql_url, sqlite, sqlite_url
from tests.servers import PROGRAMS

__all__ = ["postgresql", "postgresql_url", "sqlite", "sqlite_url"]  # fixtures that pytest finds here


@pytest.fixture(scope="session", params=PROGRAMS)
def redis_program(request: pytest.FixtureRequest) -> str:
    """The program behind `redis_server`."""
    program: str = request.param
    return program
