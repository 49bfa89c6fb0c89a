"""A misspelt, mistyped or missing variable is found before any host is touched."""

from __future__ import annotations

import pathlib
import types
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from .conftest import load

SPECS = """
argument_specs:
  main:
    short_description: x
    options:
      redis_port: {type: int, default: 6379, description: Port.}
      redis_address: {type: str, default: "{{ ansible_host }}", description: Address.}
      redis_bind: {type: list, elements: str, default: ["{{ redis_address }}"], description: Where.}
      redis_mode: {type: str, default: a, choices: [a, b], description: Mode.}
      redis_password: {type: str, required: true, description: Password (secret). More.}
      redis_token: {type: dict, default: {}, description: Token.}
"""


@pytest.fixture
def check(tmp_path: pathlib.Path) -> Any:
    (tmp_path / "redis/meta").mkdir(parents=True)
    (tmp_path / "redis/meta/argument_specs.yml").write_text(SPECS)
    plugin = load("roles/preflight/action_plugins/preflight_variables.py")

    task = types.SimpleNamespace(args={"roles": str(tmp_path), "values": ["redis_port", "redis_bind"]})

    def run(*, groups: tuple[str, ...] = ("redis",), **variables: Any) -> dict[str, Any]:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = task
        action._templar = Templar(loader=DataLoader())
        known = {"ansible_host": "10.0.0.1", "group_names": list(groups), **variables}
        monkey = pytest.MonkeyPatch()
        monkey.setattr(plugin.ActionBase, "run", lambda *_: {})
        try:
            result: dict[str, Any] = action.run(None, known)
        finally:
            monkey.undo()
        return result

    return run


def test_good_variables_are_no_problem_and_their_values_are_resolved(check: Any) -> None:
    result = check(redis_password="p")
    assert result["problems"] == []
    assert result["values"] == {"redis_port": 6379, "redis_bind": ["10.0.0.1"]}


def test_a_misspelt_variable_is_named_with_the_nearest_one(check: Any) -> None:
    assert check(redis_password="p", redis_prot=1)["problems"] == [
        "redis_prot is no variable of these roles: did you mean redis_port?"
    ]


def test_a_variable_that_is_near_to_nothing_points_to_the_names_there_are(check: Any) -> None:
    (problem,) = check(redis_password="p", redis_zzzzzzzzzzzzzzz=1)["problems"]
    assert "README" in problem


def test_names_without_a_roles_prefix_are_nobodys_business(check: Any) -> None:
    assert check(redis_password="p", rediss_x=1, __redis_x=1, lab_x=2)["problems"] == []


def test_a_wrong_type_and_a_wrong_choice_are_both_reported(check: Any) -> None:
    problems = check(redis_password="p", redis_port="many", redis_mode="c")["problems"]
    assert [problem.split(" ")[0] for problem in problems] == ["redis_port", "redis_mode"]
    assert "one of: a, b" in problems[1]


def test_a_secret_of_the_wrong_type_is_not_shown(check: Any) -> None:
    (problem,) = check(redis_password="p", redis_token="hunter2")["problems"]
    assert "hunter2" not in problem
    assert "redis_token must be of type dict" in problem


def test_a_missing_secret_is_asked_for_only_where_the_role_runs(check: Any) -> None:
    (problem,) = check()["problems"]
    assert problem.startswith("redis_password is not set (Password (secret)).")
    assert check(groups=("session_service",))["problems"] == []


def test_a_template_that_does_not_resolve_is_named(check: Any) -> None:
    (problem,) = check(redis_password="p", redis_mode=trust_as_template("{{ nowhere }}"))["problems"]
    assert problem.startswith("redis_mode does not resolve:")
