"""The command line without a store: help, settings, exit codes, and nothing done without --execute."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from session_ops.cli import main
from session_ops.settings_table import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = {"REDIS_PORT": "1", "SESSION_GENERATION_PREFIX": "1-x"}
"""Port 1: nothing listens there."""


def call(*arguments: str, **environment: str) -> Any:
    clean = {row.name: None for row in SETTINGS}
    return CliRunner().invoke(main, arguments, env={**clean, **environment}, prog_name="session-ops")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in commands(main)], ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    done = call(*path, "--help")
    assert done.exit_code == 0
    assert "Example" in done.output
    assert f"session-ops {' '.join(path)}" in done.output


def test_help_is_quick() -> None:
    # What takes long is imported by the commands that need it, and by no other
    program = "import sys; from session_ops.cli import main; main(['-h'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert "click" in imported
    assert not imported & {
        "sqlalchemy",
        "falcon",
        "uvicorn",
        "hiredis",
        "httpx",
        "structlog",
        "prometheus_client",
    }


def test_settings_say_where_each_value_came_from_and_mask_secrets() -> None:
    done = call("settings", "--json", SESSION_TTL="60", REDIS_PASSWORD="hunter2")
    rows = {row["name"]: row for row in msgspec.json.decode(done.stdout)}
    assert len(rows) == len(SETTINGS)
    assert (rows["SESSION_TTL"]["value"], rows["SESSION_TTL"]["source"]) == (60, "environment")
    assert rows["REDIS_PASSWORD"]["value"] == "********"
    assert "hunter2" not in done.output
    assert "hunter2" not in call("settings", REDIS_PASSWORD="hunter2").output


def test_settings_check_is_silent_or_names_the_mistake() -> None:
    assert (call("settings", "--check").exit_code, call("settings", "--check").output) == (0, "")
    for environment, message in (
        ({"SESSION_TTL": "soon"}, "SESSION_TTL: must be an integer"),
        ({"SESSION_TLT": "1"}, "SESSION_TLT: unknown setting; did you mean SESSION_TTL?"),
        ({"SESSION_TOKENS": "hunter2"}, "SESSION_TOKENS: must be a JSON list"),
        ({"SESSION_AGENT_MANAGER": "mine"}, "SESSION_AGENT_MANAGER: no entry point 'mine'"),
        ({"LEGACY_DATABASE_URL": "hunter2"}, "LEGACY_DATABASE_URL: not a database URL"),
    ):
        done = call("settings", "--check", **environment)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"session-ops: {message}")
        assert done.stderr.count("\n") == 1
        assert "hunter2" not in done.output


def test_serve_ends_with_2_and_one_line_when_a_setting_is_wrong() -> None:
    done = call("serve", SESSION_WORKERS="many")
    assert (done.exit_code, done.stderr) == (2, "session-ops: SESSION_WORKERS: must be an integer, not 'many'\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("sessions", "list"),
        ("sessions", "show", "a"),
        ("sessions", "delete", "a"),
        ("sessions", "delete", "a", "--execute"),
        ("sessions", "revoke", "u", "--execute"),
        ("sessions", "stats"),
        ("cleanup", "--execute"),
        ("generation", "open", "1-x", "--execute"),
    ],
    ids=" ".join,
)
def test_redis_out_of_reach_is_exit_code_7(arguments: tuple[str, ...]) -> None:
    done = call(*arguments, **NOBODY)
    assert done.exit_code == 7
    assert "127.0.0.1:1" in done.stderr
    assert done.stdout == ""


def test_generation_show_answers_also_when_redis_is_down() -> None:
    done = call("generation", "show", "--json", **NOBODY)
    assert done.exit_code == 0
    answer = msgspec.json.decode(done.stdout)
    assert (answer["redis"], answer["mode"], answer["prefix"]) == ("down", None, None)


def test_sessions_need_a_generation() -> None:
    done = call("sessions", "list")
    assert (done.exit_code, done.stderr.startswith("session-ops: SESSION_GENERATION_PREFIX: not set")) == (2, True)


def test_a_prefix_that_none_can_have_is_refused() -> None:
    assert call("generation", "open", "a b", "--execute").exit_code == 2


def test_an_unknown_command_is_refused() -> None:
    assert call("migrate").exit_code == 2
