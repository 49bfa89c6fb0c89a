"""A legacy table: prepared by a rollout where it has no rows, left to the operator where it has; and the flag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.session_releases import Releases

from tests.unit.roles.session_service.module_run import load, run_module

URL = "postgresql+psycopg://ann:a-secret-that-nobody-may-see@db/application"
STEP = {"name": "guard", "why": "from here on old code is refused", "sql": [], "how": "together"}
FRESH: dict[str, Any] = {
    "table": "sessions",
    "changed": True,
    "bump": True,
    "empty": True,
    "stage": None,
    "use_redis": False,
    "percent": 0,
    "steps": [STEP],
}
DONE = FRESH | {"changed": False, "bump": False, "empty": False, "stage": "bulk", "percent": 10, "steps": []}
ON = {"USE_REDIS_SESSIONS": "true", "SESSION_REDIS_PERCENT": "100"}


class Table:
    """A release whose `migrate prepare` answers what the test says, and notes how it was called."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys, self.calls = folder / "root", capsys, folder / "calls"
        self.answer, self.program = folder / "answer", Releases(self.root).path("a") / "bin" / "session-ops"
        self.calls.touch()

    def says(self, answer: dict[str, Any] | str, code: int = 0) -> None:
        self.answer.write_text(answer if isinstance(answer, str) else json.dumps(answer))
        self.program.parent.mkdir(parents=True, exist_ok=True)
        self.program.write_text(
            f'#!/bin/sh\n[ "$(cat "$LEGACY_DATABASE_URL_FILE")" = "{URL}" ] || exit 9\n'
            f'echo "$@" >> {self.calls}\ncat {self.answer} {">&2" if code else ""}\nexit {code}\n'
        )
        self.program.chmod(0o755)

    def prepare(self, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return run_module(
            load("session_prepare"),
            self.capsys,
            check=check,
            root=self.root,
            configuration=self.root.parent / "etc",
            release="a",
            environment={"LEGACY_TABLE": "sessions"},
            flag={"USE_REDIS_SESSIONS": True, "SESSION_REDIS_PERCENT": 100},
            credentials={"legacy-database-url": URL},
            **arguments,
        )

    @property
    def executed(self) -> bool:
        return "migrate prepare --json --execute" in self.calls.read_text()


@pytest.fixture
def table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Table:
    return Table(tmp_path, capsys)


@pytest.mark.parametrize(
    ("answer", "executed", "flag"),
    [
        (FRESH, True, ON),
        (FRESH | {"empty": False}, False, ON | {"USE_REDIS_SESSIONS": "false"}),
        # cut short before the bump, or after the operator's own prepare
        (DONE | {"bump": True, "stage": "prepared", "percent": 0}, True, {**ON, "SESSION_REDIS_PERCENT": "0"}),
        (DONE, False, {**ON, "SESSION_REDIS_PERCENT": "10"}),
        # cut short behind the guard, and used since
        (DONE | {"changed": True, "steps": [STEP]}, False, {**ON, "SESSION_REDIS_PERCENT": "10"}),
    ],
    ids=["no rows", "rows", "no generation", "prepared", "rows, and steps that are left"],
)
def test_it_prepares_what_has_no_rows_and_seeds_the_flag_of_the_stage(
    table: Table, answer: dict[str, Any], executed: bool, flag: dict[str, str]
) -> None:
    table.says(answer | {"use_redis": answer["stage"] is not None})
    result = table.prepare()
    assert (result["changed"], table.executed, result["flag"]) == (executed, executed, flag)
    assert ("guard" in result["diff"]["after"]) is (executed and bool(answer["steps"]))


def test_check_mode_foresees_it_and_does_nothing(table: Table) -> None:
    assert table.prepare(check=True)["changed"], "a fresh host has no release that could look"
    table.says(FRESH)
    assert table.prepare(check=True)["changed"]
    assert not table.executed
    table.says(DONE)
    assert not table.prepare(check=True)["changed"]


def test_a_refusal_is_told_with_the_programs_words_and_what_to_do(table: Table) -> None:
    table.says("session-ops: legacy: unreachable", code=6)
    result = table.prepare()
    assert result["failed"]
    for part in ("legacy: unreachable", "next step", "session_service_legacy_database_url"):
        assert part in result["msg"]
    assert "a-secret" not in json.dumps(result)


def test_sessions_in_redis_alone_are_not_left_behind(table: Table) -> None:
    table.says(FRESH)
    result = table.prepare(served=["1-abc"])
    assert result["failed"]
    assert "1-abc" in result["msg"]
    assert not table.calls.read_text()
