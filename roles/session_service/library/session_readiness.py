#!/usr/bin/python
"""Ansible module: the service is ready, and what it no longer needs is gone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_configuration import SERVED, generation_prefix, served_generation
from ansible.module_utils.session_releases import Releases
from ansible.module_utils.session_transaction import Transaction, Wanted
from ansible.module_utils.session_units import (
    SERVICE,
    ask_ready,
    journal,
    reasons,
    refused_credentials,
    serves,
    show_unit,
    unprepared,
    wait_ready,
)

DOCUMENTATION = r"""
module: session_readiness
short_description: The service is ready
description:
  - Asks C(/readyz) until the service can serve. Once it can, the release and its configuration have proved themselves.
    Then what was saved to take them back is forgotten, and releases beyond the newest are removed (never the one in
    use nor the one before it).
  - Fails with the reasons that the service gives and its last journal lines.
options:
  root:
    description: Folder of the releases.
    type: path
    required: true
  configuration:
    description: Folder of the configuration.
    type: path
    required: true
  url:
    description: Where the service answers, C(http://HOST:PORT).
    type: str
    required: true
  timeout:
    description: Longest time to wait, in seconds.
    type: int
    default: 30
  keep:
    description: How many releases to keep.
    type: int
    default: 3
  redis_user:
    description: The service's user in Redis, named when its credentials are refused.
    type: str
    default: ""
author: session-ops
"""
EXAMPLES = r"""
- name: The service is ready
  session_readiness:
    root: /opt/session-ops
    configuration: /etc/session-ops
    url: http://192.0.2.10:8080
"""
RETURN = r"""
readyz:
  description: The service's answer.
  returned: always
  type: dict
removed:
  description: The releases that were removed, or would be.
  returned: always
  type: list
"""


def _user(answer: dict[str, Any], user: str) -> str:
    """Name the user whose credentials Redis refused, or nothing where it refused none."""
    if not user or not refused_credentials(answer):
        return ""
    return f"Redis refused its user {user}: session_service_redis_password must be that user's password in Redis\n"


def _advice(answer: dict[str, Any]) -> str:
    """What to do about a service that is not ready."""
    if unprepared(answer):
        # The service is well: its journal would only hide what there is to do.
        return (
            "the legacy table has rows and is not prepared; until it is, the application goes on with its own code and "
            "the service answers 503\n"
            "next step: on one service host run `session-ops migrate prepare`, which shows what it would do, then "
            "`session-ops migrate prepare --execute`, then run the playbook again"
        )
    return (
        f"{SERVICE} is {show_unit(SERVICE).state}; its last journal lines:\n{journal()}\n"
        "next step: put right what the reason or the journal names, then run the playbook again"
    )


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        "root": {"type": "path", "required": True},
        "configuration": {"type": "path", "required": True},
        "url": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 30},
        "keep": {"type": "int", "default": 3},
        "redis_user": {"type": "str", "default": ""},
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    url, timeout = module.params["url"], module.params["timeout"]
    releases = Releases(Path(module.params["root"]))
    began = time.monotonic()
    # Nothing was started in check mode, so there is nothing to wait for.
    answer = ask_ready(url, 3.0) if module.check_mode else wait_ready(url, timeout)
    if not serves(answer) and not module.check_mode:
        module.fail_json(
            msg=f"{url}/readyz is not ready after {time.monotonic() - began:.0f} s: {reasons(answer)}\n"
            f"{_user(answer, module.params['redis_user'])}"
            f"{_advice(answer)}",
            readyz=answer,
            removed=[],
        )
    configuration = Path(module.params["configuration"])
    removed = releases.removable(module.params["keep"])
    prefix = generation_prefix(configuration)
    first_served = (
        answer.get("stores", {}).get("redis", {}).get("state") == "up" and served_generation(configuration) != prefix
    )
    if not module.check_mode:
        Transaction(configuration / ".before").commit()
        if first_served:
            Wanted(configuration / SERVED, f"{prefix}\n").place()
        for name in removed:
            releases.remove(name)
    module.exit_json(
        changed=bool(removed) or first_served,
        readyz=answer,
        removed=removed,
        diff={"before": "".join(f"{releases.path(name)}\n" for name in removed), "after": ""} if removed else {},
    )


if __name__ == "__main__":
    main()
