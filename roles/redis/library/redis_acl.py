#!/usr/bin/python
"""Ansible module: the users of Redis, exactly these, without a client losing its connection."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_acl_rules import User, described, digest, line, parse, parse_lines, words
from ansible.module_utils.redis_client import Client, LoginError, RedisError, connect, log_in, read_password
from ansible.module_utils.redis_host_files import Ownership, ensure_file, read, write

DOCUMENTATION = r"""
module: redis_acl
short_description: Exactly these users in Redis, live and in its ACL file
description:
  - While Redis runs, users are changed with ACL SETUSER and ACL DELUSER and kept with ACL SAVE; Redis writes its file.
  - While Redis does not run with this ACL file, the file is written for its next start.
  - The administrator's password file changes last. An interrupted rotation is finished by the next run, because both
    the password in the file and the new one are tried.
  - The caller hides this module's output (no_log), so it never fails by itself. The caller looks at RV(problem).
options:
  socket:
    description: Redis' Unix socket.
    type: path
    required: true
  aclfile:
    description: The ACL file.
    type: path
    required: true
  owner:
    description: The user Redis runs as.
    type: str
    required: true
  administrator:
    description: Name of the administrator.
    type: str
    required: true
  password_file:
    description: File of the administrator's password for local tools.
    type: path
    required: true
  users:
    description: Users (name, password, rules). Every other user is removed, the default user is switched off.
    type: list
    elements: dict
    required: true
author: session-ops
"""
EXAMPLES = r"""
- name: Redis has its users
  redis_acl:
    socket: /run/redis/redis.sock
    aclfile: /etc/redis/users.acl
    owner: redis
    administrator: administrator
    password_file: /etc/redis/administrator.password
    users:
      - name: administrator
        password: "{{ redis_administrator_password }}"
        rules: ["~*", "&*", "+@all"]
  no_log: true
  diff: false
"""
RETURN = r"""
users:
  description: Names of the users that changed or would change.
  returned: always
  type: list
problem:
  description: What went wrong, without a secret in it; empty when nothing did.
  returned: always
  type: str
"""

# Nobody can log in as it. It keeps its rights because Redis (7.0.15, measured) replays its AOF with them: without them
# a restart silently drops every transaction in the file, and a function that writes two keys is one.
_OFF = parse("default", ["off", "resetpass", "~*", "&*", "+@all"])


def wanted_users(items: list[dict[str, Any]]) -> dict[str, User]:
    """Return the users there should be, by name, with the default user switched off."""
    users = {"default": _OFF}
    for item in items:
        password = [] if item["password"] is None else ["#" + digest(item["password"])]
        users[item["name"]] = parse(item["name"], ["on", *password, *item["rules"]])
    return users


def differing(wanted: dict[str, User], current: dict[str, User]) -> list[str]:
    """Return the names of users to change, to add or to remove."""
    return sorted(name for name in {*wanted, *current} if wanted.get(name) != current.get(name))


def reconcile(client: Client, wanted: dict[str, User], aclfile: str, *, check: bool) -> list[str]:
    """Make the users of a running Redis the wanted ones; returns the names that changed.

    Raises RedisError when Redis refuses a rule; the users before it keep what they were given.
    """
    before = parse_lines(client.call("ACL", "LIST"))
    names = differing(wanted, before)
    saved = parse_lines((read(pathlib.Path(aclfile)) or "").splitlines())
    if check:
        return names or differing(wanted, saved)
    for name in names:
        if name in wanted:
            client.call("ACL", "SETUSER", name, "reset", *words(wanted[name]))
        else:
            client.call("ACL", "DELUSER", name)
    # Redis is the last judge: a rule it spells in another way has changed nothing.
    after = parse_lines(client.call("ACL", "LIST"))
    changed = differing(before, after)
    if changed or differing(after, saved):
        client.call("ACL", "SAVE")
    return changed or differing(after, saved)


def uses(client: Client, aclfile: str) -> bool:
    """Say whether this Redis has the ACL file; one that was installed but not yet taken over has none."""
    return bool(client.call("CONFIG", "GET", "aclfile") == ["aclfile", aclfile])


def refused(error: RedisError, users: dict[str, User]) -> str:
    """Return what to tell the operator about a rule that Redis does not accept."""
    rules = "; ".join(described(user) for user in users.values() if user.name != "default")
    return f"Redis refuses a user: {error}. Correct redis_service_acl or redis_extra_acl_users. Wanted: {rules}"


def administer(module: AnsibleModule) -> dict[str, Any]:
    """Bring the users, their file and the password file to what is wanted."""
    params, check = module.params, module.check_mode
    wanted = wanted_users(params["users"])
    password = next(item["password"] for item in params["users"] if item["name"] == params["administrator"])
    client = connect(params["socket"])
    live = False
    changed: list[str] = []
    if client is not None:
        with contextlib.closing(client):
            log_in(client, params["administrator"], [*read_password(params["password_file"]), password])
            live = uses(client, params["aclfile"])
            if live:
                try:
                    changed = reconcile(client, wanted, params["aclfile"], check=check)
                except RedisError as error:
                    return {"changed": False, "users": [], "problem": refused(error, wanted)}
    if not live:
        changed = _write_file(params, wanted, check=check)
    root = Ownership("root", "root", "0600")
    rotated = ensure_file(pathlib.Path(params["password_file"]), password + "\n", root, check=check) is not None
    return {"changed": bool(changed) or rotated, "users": changed, "problem": ""}


def _write_file(params: dict[str, Any], wanted: dict[str, User], *, check: bool) -> list[str]:
    path = pathlib.Path(params["aclfile"])
    ownership = Ownership(params["owner"], params["owner"], "0640")
    changed = differing(wanted, parse_lines((read(path) or "").splitlines()))
    if changed and not check:
        write(path, "".join(line(user) + "\n" for user in wanted.values()), ownership)
    return changed


def main() -> None:
    """Run, and give back a problem as a value."""
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "aclfile": {"type": "path", "required": True},
            "owner": {"type": "str", "required": True},
            "administrator": {"type": "str", "required": True},
            "password_file": {"type": "path", "required": True, "no_log": False},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "no_log": True},
                    "rules": {"type": "list", "elements": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        result = administer(module)
    except (LoginError, RedisError, OSError) as error:
        result = {"changed": False, "users": [], "problem": str(error)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
