#!/usr/bin/python
"""Ansible module: a legacy table without rows is prepared, and the first generation is open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_configuration import run_release, strings, wanted_files
from ansible.module_utils.session_releases import ReleaseError, Releases

DOCUMENTATION = r"""
module: session_prepare
short_description: A legacy table without rows is prepared
description:
  - Runs C(session-ops migrate prepare --execute) of a release where the legacy table is empty or not there, and where
    nothing but the first generation is left to open. A table with rows is the operator's to prepare, and left alone.
  - Says which flag a host is given that has none.
options:
  root:
    description: Folder of the releases.
    type: path
    required: true
  configuration:
    description: Folder of the configuration, which need not be there yet.
    type: path
    required: true
  release:
    description: Name of the release.
    type: str
    required: true
  environment:
    description: Settings without secrets.
    type: dict
    required: true
  flag:
    description: The flag where the table is empty.
    type: dict
    required: true
  credentials:
    description: Secrets by file name.
    type: dict
    required: true
  served:
    description: Prefixes of generations that hosts have served from Redis alone; their sessions would be left behind.
    type: list
    elements: str
    default: []
author: session-ops
"""
EXAMPLES = r"""
- name: A legacy table without rows is prepared
  session_prepare:
    root: /opt/session-ops
    configuration: /etc/session-ops
    release: 1.2.0-0123abcd
    environment: {REDIS_HOST: 192.0.2.10}
    flag: {USE_REDIS_SESSIONS: "true"}
    credentials: {legacy-database-url: "postgresql+psycopg://application@192.0.2.20/application"}
"""
RETURN = r"""
flag:
  description: The flag of a host that has none yet.
  returned: always
  type: dict
"""
ADVICE = {
    4: "another `session-ops migrate prepare` or bump is at work: wait for its end, then run the playbook again",
    6: "see that the database runs, and that session_service_legacy_database_url is right",
    7: "see that Redis runs, and that session_service_redis_host, _port, _user and _password are right",
}
OFF = {"USE_REDIS_SESSIONS": "false"}


class Table:
    """The legacy table as the release's program sees it."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.program = Releases(Path(parameters["root"])).path(parameters["release"]) / "bin" / "session-ops"
        self.environment = strings(parameters["environment"])
        self.files = wanted_files(
            Path(parameters["configuration"]),
            "root",
            self.environment,
            strings(parameters["flag"]),
            parameters["credentials"],
        )

    def prepare(self, *arguments: str) -> dict[str, Any]:
        """Run `migrate prepare`; raises `ReleaseError` with its words and what to do."""
        done = run_release(self.program, ["migrate", "prepare", "--json", *arguments], self.environment, self.files)
        if done.returncode != 0:
            said = done.stderr.strip()[-1500:] or f"exit code {done.returncode}"
            advice = ADVICE.get(done.returncode, "put right what it names, then run the playbook again")
            raise ReleaseError(f"`session-ops migrate prepare` says: {said}\nnext step: {advice}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def seed(planned: dict[str, Any], wanted: dict[str, str]) -> dict[str, str]:
    """The flag of a host that has none: the stage row's; before there is one off, or as wanted for an empty table."""
    if planned["stage"] is not None:
        return {
            "USE_REDIS_SESSIONS": str(planned["use_redis"]).lower(),
            "SESSION_REDIS_PERCENT": str(planned["percent"]),
        }
    return wanted if planned["empty"] else wanted | OFF


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        "root": {"type": "path", "required": True},
        "configuration": {"type": "path", "required": True},
        "release": {"type": "str", "required": True},
        "environment": {"type": "dict", "required": True},
        "flag": {"type": "dict", "required": True},
        "credentials": {"type": "dict", "required": True, "no_log": True},
        "served": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    wanted = strings(module.params["flag"])
    if module.params["served"]:
        module.fail_json(
            msg="this fleet's sessions are in Redis alone, in generation "
            f"{', '.join(module.params['served'])}: with a legacy store they would be left behind\n"
            "next step: leave session_service_legacy_database_url empty; or, to give those sessions up, remove "
            f"{module.params['configuration']}/generation on every service host"
        )
    table = Table(module.params)
    # In check mode a fresh host has no release yet that could look at the table.
    if module.check_mode and not table.program.exists():
        module.exit_json(changed=True, flag=wanted)
    try:
        planned = table.prepare()
        # With rows nothing but the bump may be left: the operator has prepared it, and was cut short before the end.
        due = (planned["changed"] and planned["empty"]) or (not planned["changed"] and planned["bump"])
        if due and not module.check_mode:
            table.prepare("--execute")
    except ReleaseError as error:
        module.fail_json(msg=str(error))
    steps = "".join(f"{step['name']}: {step['why']}\n" for step in planned["steps"]) if due else ""
    module.exit_json(
        changed=due,
        flag=seed(planned, wanted),
        diff={"before_header": planned["table"], "after_header": planned["table"], "before": "", "after": steps},
    )


if __name__ == "__main__":
    main()
