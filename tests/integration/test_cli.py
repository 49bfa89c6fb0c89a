"""The command line over a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from session_ops import cleanup
from session_ops.cli import main
from session_ops.records import NewSession
from session_ops.settings_table import SETTINGS
from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection, service_connection
from tests.servers import SERVICE_PASSWORD, SERVICE_USER, RedisServer

if TYPE_CHECKING:
    from session_ops.records import Session


class Operator:
    """Calls the program as an operator on a service host does."""

    def __init__(self, server: RedisServer, prefix: str) -> None:
        self.server = server
        self.environment: dict[str, str | None] = {
            **{row.name: None for row in SETTINGS},
            "REDIS_PORT": str(server.port),
            "REDIS_USERNAME": SERVICE_USER,
            "REDIS_PASSWORD": SERVICE_PASSWORD,
            "SESSION_GENERATION_PREFIX": prefix,
        }

    def __call__(self, *arguments: str) -> Any:
        return CliRunner().invoke(main, arguments, env=self.environment)

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return msgspec.json.decode(done.stdout)

    def lead(self, seconds: float) -> None:
        """Another process begins to clean."""

        async def work() -> None:
            connection = service_connection(self.server)
            repository = RedisSessionRepository(connection, prefix="1-cli")
            assert await repository.lead(cleanup.TASK, "another", seconds)
            await connection.close()

        asyncio.run(work())

    def create(self, user: str, session_id: str | None = None) -> Session:
        async def work() -> Session:
            connection = service_connection(self.server)
            try:
                return await RedisSessionRepository(connection, prefix="1-cli").create(
                    NewSession(user_id=user, id=session_id)
                )
            finally:
                await connection.close()

        return asyncio.run(work())


@pytest.fixture
def empty(redis_server: RedisServer) -> RedisServer:
    """The Redis of the run, emptied, with the library."""

    async def work() -> None:
        connection = administrator_connection(redis_server)
        await connection.call("FLUSHALL", change=True)
        await load_library(connection)
        await connection.close()

    asyncio.run(work())
    return redis_server


@pytest.fixture
def operator(empty: RedisServer) -> Operator:
    operator = Operator(empty, "1-cli")
    assert operator("generation", "open", "1-cli", "--execute").exit_code == 0
    return operator


def test_a_generation_is_opened_once_by_name_and_only_when_told(empty: RedisServer) -> None:
    operator = Operator(empty, "1-cli")
    assert operator.json("generation", "show")["mode"] is None
    assert operator.json("generation", "open", "1-cli") == {"changed": True, "prefix": "1-cli"}
    assert operator.json("generation", "show")["mode"] is None
    assert operator.json("generation", "open", "1-cli", "--execute") == {"changed": True, "prefix": "1-cli"}
    assert operator.json("generation", "open", "1-cli", "--execute") == {"changed": False, "prefix": "1-cli"}
    assert operator.json("generation", "open", "1-cli") == {"changed": False, "prefix": "1-cli"}
    shown = operator.json("generation", "show")
    assert shown == {"prefix": "1-cli", "mode": "final", "redis": "up", "keys": 1, "library": True, "reason": None}


def test_a_generation_is_never_opened_over_data(operator: Operator) -> None:
    operator.create("u")
    for arguments in (("generation", "open", "1-other"), ("generation", "open", "1-other", "--execute")):
        done = operator(*arguments)
        assert done.exit_code == 3
        assert done.stderr.count("\n") == 1


def test_sessions_are_listed_shown_and_counted(operator: Operator) -> None:
    session = operator.create("alice")
    operator.create("bob")
    listed = operator.json("sessions", "list", "--user", "alice")
    assert [each["id"] for each in listed["sessions"]] == [session.id]
    assert operator.json("sessions", "show", session.id)["user_id"] == "alice"
    assert operator.json("sessions", "stats")["active"] == 2
    assert f"{session.id}  user=alice" in operator("sessions", "list").stdout
    assert operator("sessions", "show", "unknown").exit_code == 3


@pytest.mark.parametrize("session_id", ["plain", "-Q-h", "--json-"])
def test_a_session_ends_only_when_told(operator: Operator, session_id: str) -> None:
    session = operator.create("alice", session_id)
    assert operator.json("sessions", "show", session.id)["id"] == session_id
    assert operator.json("sessions", "delete", session.id) == {"changed": True}
    assert operator.json("sessions", "stats")["active"] == 1
    assert operator.json("sessions", "delete", session.id, "--execute") == {"changed": True}
    assert operator.json("sessions", "delete", session.id, "--execute") == {"changed": False}
    assert operator.json("sessions", "stats")["active"] == 0


def test_a_user_is_revoked_and_cleaned_only_when_told(operator: Operator) -> None:
    for _ in range(3):
        operator.create("alice")
    operator.create("bob")
    assert operator.json("sessions", "revoke", "alice") == {"changed": True, "deleted": 3}
    assert operator.json("sessions", "revoke", "alice", "--execute") == {"changed": True, "deleted": 3}
    assert operator.json("sessions", "stats")["active"] == 1
    assert operator.json("cleanup") == {"changed": False, "cleaned": 0}
    assert operator.json("cleanup", "--execute") == {"changed": True, "cleaned": 3}
    assert operator.json("cleanup", "--execute") == {"changed": False, "cleaned": 0}


def test_cleanup_waits_for_a_dead_cleaner_and_leaves_a_live_one_alone(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "LEASE", 1.0)
    session = operator.create("alice")
    operator("sessions", "delete", session.id, "--execute")

    operator.lead(60)
    done = operator("cleanup", "--execute", "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("session-ops: another process is cleaning")
    operator.lead(1)
    assert operator.json("cleanup", "--execute") == {"changed": True, "cleaned": 1}


def test_people_are_told_in_lines_what_programs_get_as_json(operator: Operator) -> None:
    session = operator.create("alice")
    shown = operator("sessions", "show", session.id).stdout
    assert session.id in shown
    assert "alice" in shown
    for arguments, line in (
        (("generation", "show"), "mode     final"),
        (("generation", "open", "1-cli", "--execute"), "generation 1-cli was open already"),
        (("sessions", "stats"), "active   1"),
        (("sessions", "list", "--user", "nobody"), "no sessions"),
        (("sessions", "delete", session.id), "would end it; add --execute"),
        (("sessions", "revoke", "alice"), "would end 1; add --execute"),
        (("sessions", "revoke", "alice", "--execute"), "ended 1"),
        (("sessions", "delete", session.id), "no live session has this id"),
        (("cleanup",), "would remove ended sessions until there are none left; add --execute"),
        (("cleanup", "--execute"), "cleaned 1"),
    ):
        done = operator(*arguments)
        assert done.exit_code == 0
        assert line in done.stdout.splitlines(), (arguments, done.stdout)


def test_a_list_goes_on_where_its_page_ended(operator: Operator) -> None:
    made = [operator.create("alice").id for _ in range(3)]
    first = operator.json("sessions", "list", "--limit", "2", "--order", "oldest")
    assert (
        f"more: --cursor {first['cursor']}" in operator("sessions", "list", "--limit", "2", "--order", "oldest").stdout
    )
    rest = operator.json("sessions", "list", "--limit", "2", "--order", "oldest", "--cursor", first["cursor"])
    assert [each["id"] for each in first["sessions"] + rest["sessions"]] == made
    assert rest["cursor"] is None
    refused = operator("sessions", "list", "--cursor", "made-up")
    assert (refused.exit_code, refused.stderr.count("\n")) == (3, 1)
