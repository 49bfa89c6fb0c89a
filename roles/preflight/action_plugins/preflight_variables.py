"""Ansible action: are the variables of this host ones that our roles know, and of the right type?

It runs on the controller alone and touches no host.
"""

from __future__ import annotations

import difflib
import pathlib
import re
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

Options = dict[str, dict[str, Any]]

_SECRET = re.compile(r"password|secret|token|database_url")


def load_specs(roles: pathlib.Path) -> dict[str, Options]:
    """Return every role's variables from its argument_specs, by role."""
    specs: dict[str, Options] = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        options: Options = {}
        for entry in document["argument_specs"].values():
            options |= entry.get("options", {})
        specs[path.parent.parent.name] = options
    return specs


def unknown_names(names: list[str], specs: dict[str, Options]) -> list[str]:
    """Return one problem for each name that has the prefix of a role and is no variable of any."""
    known = {name for options in specs.values() for name in options}
    prefixes = tuple(f"{role}_" for role in specs)
    problems = []
    for name in sorted(names):
        if not name.startswith(prefixes) or name in known:
            continue
        near = difflib.get_close_matches(name, sorted(known), 1)
        hint = f"did you mean {near[0]}?" if near else "remove it, or see the roles' README for the names there are."
        problems.append(f"{name} is no variable of these roles: {hint}")
    return problems


def wrong_type(name: str, option: dict[str, Any], value: Any) -> str | None:
    """Return the problem with a value's type or choice, None when it is right. A secret's value is never shown."""
    result = ArgumentSpecValidator({name: {**option, "required": False}}).validate({name: value})
    if not result.error_messages:
        return None
    if _SECRET.search(name):
        return f"{name} must be of type {option.get('type', 'str')}: correct it."
    reasons = "; ".join(result.error_messages)
    return f"{name} is {value!r}: {reasons}. Correct it."


def missing_secrets(options: Options, defined: set[str]) -> list[str]:
    """Return one problem for each required variable that nothing sets."""
    return [
        f"{name} is not set ({option['description'].split('.')[0]}). Set it for this host; a secret in the vault file."
        for name, option in options.items()
        if option.get("required") and name not in defined
    ]


def defaults(specs: dict[str, Options]) -> dict[str, Any]:
    """Return the defaults of all roles together, by name."""
    return {
        name: trusted(option["default"])
        for options in specs.values()
        for name, option in options.items()
        if "default" in option
    }


class ActionModule(ActionBase):
    """Checks the variables; returns `problems`, and the validated `values` that were asked for."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("roles", "values"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check names, types and secrets of the roles whose group this host is in."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        specs = load_specs(pathlib.Path(self._task.args["roles"]))
        problems = unknown_names(list(variables), specs)
        # A default may refer to another one, of any role.
        self._known = {**defaults(specs), **variables}
        values: dict[str, Any] = {}
        for role, options in specs.items():
            mine = role == "preflight" or role in variables.get("group_names", [])
            if mine:
                problems += missing_secrets(options, set(variables))
            for name, option in options.items():
                if name not in variables and not (mine and "default" in option):
                    continue
                problem, value = self._checked(name, option)
                if problem:
                    problems.append(problem)
                elif name in self._task.args["values"]:
                    values[name] = value
        return {**result, "changed": False, "problems": problems, "values": values}

    def _checked(self, name: str, option: dict[str, Any]) -> tuple[str | None, Any]:
        """Return the problem with a variable, or None and its value with all templates resolved."""
        templar = self._templar.copy_with_new_env(available_variables=self._known)
        try:
            value = templar.template(self._known[name])
        except AnsibleError as error:
            return f"{name} does not resolve: {error}. Correct it.", None
        return wrong_type(name, option, value), value


def trusted(value: Any) -> Any:
    """Mark the templates in a default as our own: they come from the role, not from a host."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, list):
        return [trusted(item) for item in value]
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    return value
