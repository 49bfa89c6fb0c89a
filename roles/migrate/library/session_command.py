#!/usr/bin/python
"""Ansible module: a command of the release in use, which changes nothing where nothing is to be changed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: session_command
short_description: A command of session-ops has done its work
description:
  - Runs the host's C(session-ops) with C(--json) and answers what it printed.
  - With I(executes) the command is first asked what it would change; where that is something it runs again with
    C(--execute), except in check mode. Without it the command only looks, in check mode too.
options:
  argv:
    description: The command and its arguments, without C(--json) and C(--execute).
    type: list
    elements: str
    required: true
  executes:
    description: Whether the command changes something with C(--execute).
    type: bool
    default: false
  operator:
    description: Who is named in the audit.
    type: str
    default: ""
  program:
    description: The program, with the settings of the host's service.
    type: path
    default: /usr/local/sbin/session-ops
author: session-ops
"""
EXAMPLES = r"""
- name: The flag of the host is at 10 %
  session_command:
    argv: [flag, set, --percent, "10"]
    executes: true
    operator: ann
"""
RETURN = r"""
answer:
  description: What the command printed as JSON; where it fails, as far as it did.
  returned: always
  type: dict
would:
  description: What it answered before it changed anything.
  returned: when it executes
  type: dict
host:
  description: The name by which the host reports to the legacy store.
  returned: always
  type: str
"""
# What the exit codes of session-ops ask for.
NEXT = {
    2: "see the message: a setting of the host or an argument is wrong; `session-ops settings` shows them",
    3: "put right what it names, then run the playbook again",
    4: "`session-ops migrate status` shows the stage, and who is at work",
    5: "look at what differs before anything else: `session-ops migrate validate --full`",
    6: "see that the legacy database runs and is reached from this host, then run the playbook again",
    7: "see that Redis runs and is reached from this host, then run the playbook again",
    8: "run the playbook again: it goes on where it was",
}


class Program:
    """The host's session-ops."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.environment = dict(os.environ)
        if module.params["operator"]:
            self.environment["SESSION_OPERATOR"] = module.params["operator"]

    def run(self, *more: str) -> dict[str, Any]:
        """The command's answer; ends the module where it fails, with its words and the next step."""
        argv = [self.module.params["program"], *self.module.params["argv"], "--json", *more]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env=self.environment)
        except OSError as error:
            self.fail(f"{argv[0]} does not run: {error.strerror}\nnext step: run playbooks/rollout.yml", 127, {})
        try:
            answer = json.loads(done.stdout or "{}")
        except ValueError:
            answer = {}
        if done.returncode != 0:
            said = [line.removeprefix("session-ops: ") for line in done.stderr.strip().splitlines()]
            words = "\n".join(said[-20:]) or f"exit code {done.returncode}"
            name = " ".join(self.module.params["argv"][:3])
            advice = NEXT.get(done.returncode, "read the message and the journal of session-service")
            self.fail(f"session-ops {name}: {words}\nnext step: {advice}", done.returncode, answer)
        return answer if isinstance(answer, dict) else {"items": answer}

    def fail(self, message: str, code: int, answer: dict[str, Any]) -> None:
        """End the module."""
        self.module.fail_json(msg=message, rc=code, answer=answer, host=socket.gethostname())


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        "argv": {"type": "list", "elements": "str", "required": True},
        "executes": {"type": "bool", "default": False},
        "operator": {"type": "str", "default": ""},
        "program": {"type": "path", "default": "/usr/local/sbin/session-ops"},
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    program = Program(module)
    would = program.run()
    if not module.params["executes"]:
        module.exit_json(changed=False, answer=would, host=socket.gethostname())
    # `migrate prepare` may have nothing left to do but the first bump.
    due = bool(would.get("changed") or would.get("bump"))
    answer = program.run("--execute") if due and not module.check_mode else would
    diff = {"before": f"{would['before']}\n", "after": f"{would['after']}\n"} if due and "after" in would else {}
    module.exit_json(changed=due, answer=answer, would=would, host=socket.gethostname(), diff=diff)


if __name__ == "__main__":
    main()
