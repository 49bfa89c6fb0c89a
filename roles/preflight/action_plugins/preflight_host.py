"""Ansible action: what a host is like, and how far its clock is from the controller's.

The module of the same name looks at the host; this side adds what only the controller can see.
"""

from __future__ import annotations

import time
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


def skew(before: float, host: float, after: float) -> tuple[float, float]:
    """Return the bounds of the host's lead over the controller, in seconds.

    The host read its clock somewhere between `before` and `after` on the controller's.
    """
    return host - after, host - before


class ActionModule(ActionBase):
    """Runs the module, if there is a Python to run it."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's facts with `clock` and `python`; without Python only these two."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        try:
            return {**result, **self._look(variables)}
        except AnsibleConnectionFailure as error:
            name = variables.get("inventory_hostname", "this host")
            reason = str(error).strip().splitlines()[-1] if str(error).strip() else "no answer"
            return {
                **result,
                "unreachable": True,
                "msg": f"{name} cannot be reached: {reason}. Nothing was changed anywhere. Start the host, correct its "
                "ansible_host or key, or leave it out with --limit, and run again.",
            }

    def _look(self, variables: dict[str, Any]) -> dict[str, Any]:
        interpreter = self._interpreter(variables)
        found = self._low_level_execute_command(f"{interpreter} -c 'import sys; print(*sys.version_info[:3])'")
        before = time.time()
        clock = self._low_level_execute_command("date +%s.%N")
        after = time.time()
        bounds = skew(before, float(clock["stdout"].strip().splitlines()[-1]), after)
        facts: dict[str, Any] = {"changed": False, "clock": list(bounds), "python": None, "interpreter": interpreter}
        if found["rc"] != 0:
            return facts
        facts["python"] = [int(part) for part in found["stdout"].split()[-3:]]
        return {**self._execute_module(task_vars=variables), **facts}

    def _interpreter(self, variables: dict[str, Any]) -> str:
        configured = variables.get("ansible_python_interpreter") or constants.config.get_config_value(
            "INTERPRETER_PYTHON", variables=variables
        )
        interpreter = str(self._templar.template(configured))
        return "/usr/bin/python3" if interpreter.startswith("auto") else interpreter
