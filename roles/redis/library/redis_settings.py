#!/usr/bin/python
"""Ansible module: the settings of a running Redis, changed live and kept by Redis itself."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import pathlib
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_client import Client, LoginError, RedisError, connect, log_in, read_password
from ansible.module_utils.redis_libraries import lacking
from ansible.module_utils.redis_values import DATA_PLACE, rendered, same, shown

DOCUMENTATION = r"""
module: redis_settings
short_description: Settings of a running Redis
description:
  - Compares with CONFIG GET by meaning (C(512mb) is C(536870912)), changes with one CONFIG SET, all or none, and lets
    Redis write its own file with CONFIG REWRITE. The file itself is never touched.
  - A setting that only a start can change is reported in RV(restart), as is a process older than its unit's files.
options:
  socket:
    description: Redis' Unix socket.
    type: path
    required: true
  administrator:
    description: The user to log in as.
    type: str
    required: true
  password_file:
    description: File of the administrator's password on the host.
    type: path
    required: true
  settings:
    description: Directive to value. A list is its items joined by spaces.
    type: dict
    required: true
  start_only:
    description: Directives that Redis only takes when it starts; the unit's command line carries them.
    type: list
    elements: str
    default: []
  watched_files:
    description: Files the process has read at its start, such as its drop-in; a newer one asks for a restart.
    type: list
    elements: path
    default: []
  libraries:
    description: Folder of function libraries, which are asked for on the same connection and not changed.
    type: path
author: session-ops
"""
EXAMPLES = r"""
- name: Redis has its settings
  redis_settings:
    socket: /run/redis/redis.sock
    administrator: administrator
    password_file: /etc/redis/administrator.password
    settings:
      maxmemory: 512mb
      save: ""
  notify: Restart Redis
"""
RETURN = r"""
settings:
  description: Names of the settings that were changed live, or would be.
  returned: always
  type: list
restart:
  description: What a restart would bring into force; empty when none is needed.
  returned: always
  type: list
lacking:
  description: Whether Redis has to be given function libraries, or cannot be asked about them.
  returned: always
  type: bool
"""


class RefusedError(Exception):
    """The wanted settings cannot be had; the text says why and what to change."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do about the settings that differ."""

    current: dict[str, str]
    live: dict[str, str]
    at_start: dict[str, str]


def plan(wanted: dict[str, object], current: dict[str, str], start_only: list[str]) -> Plan:
    """Sort the differing settings into those for CONFIG SET and those for a restart.

    Raises RefusedError for a name Redis does not know and for a change that would make Redis start without its data.
    """
    live: dict[str, str] = {}
    at_start: dict[str, str] = {}
    for name, value in wanted.items():
        if name not in current:
            near = difflib.get_close_matches(name, current, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise RefusedError(f"this Redis has no setting {name}: {hint}Correct redis_extra_settings.")
        if same(name, value, current[name]):
            continue
        if name in DATA_PLACE:
            raise RefusedError(
                f"{name} is {current[name]} on this host and {rendered(value)} is wanted: Redis would start "
                "without its data. Set the variable back, or move the data yourself with Redis stopped."
            )
        (at_start if name in start_only else live)[name] = rendered(value)
    return Plan(current, live, at_start)


def read_settings(client: Client) -> dict[str, str]:
    """Return every setting as CONFIG GET has it; one round trip."""
    flat = client.call("CONFIG", "GET", "*")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def apply(client: Client, planned: Plan) -> dict[str, str]:
    """Set the live ones, all or none, and have Redis keep them; returns those whose value really changed.

    Redis is the last judge of spelling: what reads the same after CONFIG SET has not changed. Raises RefusedError with
    Redis' own reason.
    """
    if not planned.live:
        return {}
    try:
        client.call("CONFIG", "SET", *(word for pair in planned.live.items() for word in pair))
    except RedisError as error:
        raise RefusedError(f"Redis refuses {', '.join(planned.live)}: {error}. Nothing was changed.") from error
    after = read_settings(client)
    changed = {name: after[name] for name in planned.live if after[name] != planned.current[name]}
    if changed:
        client.call("CONFIG", "REWRITE")
    return changed


def started_at(process: int) -> float:
    """Return when a process began, in seconds since 1970 (proc(5): field 22, in ticks since boot)."""
    fields = (
        pathlib.Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    )
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


def newer_files(client: Client, paths: list[str]) -> list[str]:
    """Return those of the files that changed after Redis was started."""
    lines = client.call("INFO", "server").splitlines()
    process = next(int(line.split(":")[1]) for line in lines if line.startswith("process_id:"))
    start = started_at(process)
    return [path for path in paths if pathlib.Path(path).exists() and pathlib.Path(path).stat().st_mtime > start]


def difference(planned: Plan, changed: dict[str, str]) -> dict[str, str]:
    """Return what Ansible shows with --diff; a password never."""
    names = [*changed, *planned.at_start]
    after = {**changed, **{name: f"{value} (at the next start)" for name, value in planned.at_start.items()}}
    return {
        "before_header": "CONFIG GET",
        "after_header": "CONFIG GET",
        "before": "".join(f"{name} {shown(name, planned.current[name])}\n" for name in names),
        "after": "".join(f"{name} {shown(name, after[name])}\n" for name in names),
    }


def reconcile(client: Client, params: dict[str, Any], *, check: bool) -> dict[str, Any]:
    """Bring a running Redis to the wanted settings, or with `check` say what that would change."""
    planned = plan(params["settings"], read_settings(client), params["start_only"])
    changed = planned.live if check else apply(client, planned)
    restart = [*planned.at_start, *newer_files(client, params["watched_files"])]
    folder = params["libraries"]
    return {
        "changed": bool(changed or restart),
        "settings": sorted(changed),
        "restart": restart,
        "lacking": folder is not None and bool(lacking(client, folder)),
        "diff": difference(planned, changed),
    }


def main() -> None:
    """Reconcile; a Redis that does not listen on our socket runs with another configuration and wants a restart."""
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "administrator": {"type": "str", "required": True},
            "password_file": {"type": "path", "required": True, "no_log": False},
            "settings": {"type": "dict", "required": True},
            "start_only": {"type": "list", "elements": "str", "default": []},
            "watched_files": {"type": "list", "elements": "path", "default": []},
            "libraries": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    client = connect(params["socket"])
    if client is None:
        # In check mode it may not even be installed.
        restart = [] if module.check_mode else ["unixsocket"]
        module.exit_json(changed=True, settings=[], restart=restart, lacking=True)
    with contextlib.closing(client):
        try:
            log_in(client, params["administrator"], read_password(params["password_file"]))
            result = reconcile(client, params, check=module.check_mode)
        except (LoginError, RedisError, RefusedError, OSError) as error:
            module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
