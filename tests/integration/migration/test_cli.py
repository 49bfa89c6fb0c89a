"""`session-ops migrate prepare`, as an operator calls it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from session_ops.cli import main
from session_ops.cli.progress import describe
from session_ops.settings_table import SETTINGS
from tests.integration.migration.application import COLUMNS, Application
from tests.owned import load_functions
from tests.servers import SERVICE_PASSWORD, SERVICE_USER, RedisServer

if TYPE_CHECKING:
    from pathlib import Path


class Operator:
    """Calls the program with an application's settings."""

    def __init__(self, url: str, **settings: str) -> None:
        self.environment: dict[str, str | None] = {
            **{row.name: None for row in SETTINGS},
            "LEGACY_DATABASE_URL": url,
            "LEGACY_TABLE": "visits",
            "LEGACY_COLUMNS": COLUMNS,
            **settings,
        }

    def __call__(self, *arguments: str) -> Any:
        return self.call("migrate", "prepare", *arguments)

    def call(self, *arguments: str) -> Any:
        return CliRunner().invoke(main, arguments, env=self.environment)


@pytest.fixture
def operator(tmp_path: Path, redis_server: RedisServer) -> Operator:
    """An operator whose application has three sessions in SQLite, and who has a Redis with the functions."""
    url = f"sqlite:///{tmp_path}/application.db"

    async def make() -> None:
        application = Application(url, None)
        await application.make(rows=3)
        await application.database.close()

    asyncio.run(make())
    asyncio.run(load_functions(redis_server))
    return Operator(
        url,
        REDIS_PORT=str(redis_server.port),
        REDIS_USERNAME=SERVICE_USER,
        REDIS_PASSWORD=SERVICE_PASSWORD,
        SESSION_LEASE="1",
    )


def test_the_sql_is_shown_and_nothing_done_until_it_is_asked_for(operator: Operator) -> None:
    shown = operator()
    assert shown.exit_code == 0, shown.output
    assert "-- visits: 3 rows; 0 expired, 0 without an expiry" in shown.stdout
    assert "-- 2. columns: what the table lacks of a session; constant defaults" in shown.stdout
    assert "\nALTER TABLE visits ADD COLUMN bucket SMALLINT;\n" in shown.stdout
    assert "-- nothing was changed; add --execute" in shown.stdout
    assert "the first generation of Redis would be opened" in shown.stdout
    assert shown.stderr == ""

    done = operator("--execute")
    assert (done.exit_code, "-- done: visits is prepared" in done.stdout) == (0, True)
    shown = msgspec.json.decode(operator.call("generation", "show", "--json").stdout)
    assert (shown["generation"], shown["redis"], shown["redis_state"]) == (1, "on", "up")
    assert "-- visits is prepared; nothing is left to do" in operator().stdout
    refused = operator("--undo", "--execute")
    assert (refused.exit_code, "generation bump --no-redis" in refused.stderr) == (3, True)
    assert operator.call("generation", "bump", "--no-redis", "--execute").exit_code == 0
    assert "DROP TABLE session_control;" in operator("--undo").stdout
    assert "-- done: visits is not prepared" in operator("--undo", "--execute").stdout
    assert "-- visits is not prepared; nothing is left to do" in operator("--undo", "--execute").stdout


def test_the_result_is_json_for_a_program(operator: Operator) -> None:
    shown = msgspec.json.decode(operator("--json").stdout)
    done = msgspec.json.decode(operator("--json", "--execute").stdout)
    again = msgspec.json.decode(operator("--json", "--execute").stdout)

    assert (shown["changed"], shown["executed"]) == (True, False)
    assert (done["changed"], done["executed"], done["bump"]) == (True, True, False)
    assert [step["name"] for step in done["steps"]] == [step["name"] for step in shown["steps"]]
    assert done["survey"]["rows"] == 3
    assert (again["changed"], again["steps"]) == (False, [])


def test_everything_that_is_in_the_way_is_said_and_the_code_is_3(operator: Operator) -> None:
    operator.environment["LEGACY_COLUMNS"] = "id=sid,data=attributes"

    done = operator("--execute")

    assert done.exit_code == 3
    assert done.stdout == ""
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["user_id", "expires_at"]


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"LEGACY_DATABASE_URL": ""}, 2, "LEGACY_DATABASE_URL: not set"),
        ({"LEGACY_DATABASE_URL": "mysql://x@y/z"}, 2, "LEGACY_DATABASE_URL: mysql is not supported"),
        ({"LEGACY_TABLE": "a b"}, 2, "LEGACY_TABLE: must be"),
        ({"LEGACY_DATABASE_URL": "postgresql://ann:hunter2@127.0.0.1:1/x"}, 6, "legacy: unreachable"),
    ],
)
def test_a_failure_has_its_code_and_one_line(settings: dict[str, str], code: int, said: str) -> None:
    done = Operator("sqlite:////nowhere", **settings)()

    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith(f"session-ops: {said}")
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.output


@pytest.mark.parametrize(
    ("done", "total", "reason", "line"),
    [
        (0, None, "", "fill"),
        (0, None, "waiting for a lock", "fill, waiting for a lock"),
        (500, 2_000, "", "fill, 500 of 2,000 (25%), 50/s, 0:00:30 left"),
        (500, None, "busy", "fill, 500, 50/s, busy"),
        (3_000, 2_000, "", "fill, 3,000 of 2,000 (100%), 300/s, 0:00:00 left"),
    ],
)
def test_the_line_on_a_terminal_says_how_far_it_is(done: int, total: int | None, reason: str, line: str) -> None:
    assert describe("fill", done, total, 10.0, reason) == line
