"""The module that runs a command of session-ops: first what it would change, and then only where that is something."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Runner

MODULE = "roles/migrate/library/session_command.py"
PROGRAM = """#!/bin/sh
echo "$SESSION_OPERATOR: $*" >> {log}
case "$*" in
  *--execute*) echo '{{"changed": true, "after": "done"}}' ;;
  "due "*) echo '{{"changed": true, "before": "a", "after": "b"}}' ;;
  "bump "*) echo '{{"changed": false, "bump": true}}' ;;
  "held "*) echo 'session-ops: bob is at work' >&2; echo '{{"half": 1}}'; exit 4 ;;
  *) echo '{{"changed": false}}' ;;
esac
"""


@pytest.fixture
def program(tmp_path: pathlib.Path) -> dict[str, Any]:
    path = tmp_path / "session-ops"
    path.write_text(PROGRAM.format(log=tmp_path / "log"))
    path.chmod(0o755)
    return {"program": str(path), "operator": "ann"}


def calls(program: dict[str, Any]) -> list[str]:
    return pathlib.Path(program["program"]).with_name("log").read_text(encoding="utf-8").splitlines()


def test_what_is_due_is_done_and_shown(run_module: Runner, program: dict[str, Any]) -> None:
    done = run_module(MODULE, argv=["due"], executes=True, **program)

    assert (done["changed"], done["answer"]["after"], done["would"]["after"]) == (True, "done", "b")
    assert done["diff"] == {"before": "a\n", "after": "b\n"}
    assert calls(program) == ["ann: due --json", "ann: due --json --execute"]


def test_nothing_is_executed_where_nothing_is_due_in_check_mode_or_where_it_only_looks(
    run_module: Runner, program: dict[str, Any]
) -> None:
    assert run_module(MODULE, argv=["idle"], executes=True, **program)["changed"] is False
    assert run_module(MODULE, check=True, argv=["due"], executes=True, **program)["changed"] is True
    assert run_module(MODULE, argv=["due"], **program)["changed"] is False

    assert not [call for call in calls(program) if "--execute" in call]


def test_a_first_bump_that_is_left_is_due(run_module: Runner, program: dict[str, Any]) -> None:
    assert run_module(MODULE, argv=["bump"], executes=True, **program)["changed"] is True
    assert calls(program)[-1] == "ann: bump --json --execute"


def test_a_failure_has_the_commands_words_its_code_and_what_to_do(run_module: Runner, program: dict[str, Any]) -> None:
    done = run_module(MODULE, argv=["held"], executes=True, **program)

    assert (done["failed"], done["rc"], done["answer"]) == (True, 4, {"half": 1})
    assert done["msg"].startswith("session-ops held: bob is at work\nnext step: `session-ops migrate status` shows")
    gone = run_module(MODULE, argv=["x"], program="/nowhere/session-ops")
    assert "run playbooks/rollout.yml" in gone["msg"]
