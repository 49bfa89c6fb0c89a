#!/usr/bin/python
"""Ansible module: the function libraries a running Redis should have."""

from __future__ import annotations

import contextlib

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_client import LoginError, RedisError, connect, log_in, read_password
from ansible.module_utils.redis_libraries import lacking, library_files

DOCUMENTATION = r"""
module: redis_functions
short_description: Function libraries in a running Redis
description:
  - Loads every library of a folder on the host that Redis does not have, or has with other code. Libraries that Redis
    has beside them stay, since a release that still runs may need them.
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
  directory:
    description: Folder of the libraries, files named C(*.lua).
    type: path
    required: true
author: session-ops
"""
EXAMPLES = r"""
- name: Redis has its function libraries
  redis_functions:
    socket: /run/redis/redis.sock
    administrator: administrator
    password_file: /etc/redis/administrator.password
    directory: /etc/redis/functions
"""
RETURN = r"""
libraries:
  description: Files that were loaded, or would be.
  returned: always
  type: list
"""


def main() -> None:
    """Load what differs; a library that Redis refuses ends the module with Redis' own words."""
    module = AnsibleModule(
        argument_spec={
            "socket": {"type": "path", "required": True},
            "administrator": {"type": "str", "required": True},
            "password_file": {"type": "path", "required": True, "no_log": False},
            "directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    client = connect(params["socket"])
    if client is None:
        if module.check_mode:
            files = library_files(params["directory"])
            module.exit_json(changed=bool(files), libraries=[str(file) for file in files])
        module.fail_json(msg=f"Redis does not listen on {params['socket']}: see journalctl -u redis-server")
    done: list[str] = []
    with contextlib.closing(client):
        try:
            log_in(client, params["administrator"], read_password(params["password_file"]))
            for file in lacking(client, params["directory"]):
                done.append(str(file))
                if not module.check_mode:
                    client.call("FUNCTION", "LOAD", "REPLACE", file.read_text(encoding="utf-8"))
        except (LoginError, RedisError, OSError) as error:
            module.fail_json(msg=f"{done[-1] if done else params['directory']}: {error}")
    module.exit_json(changed=bool(done), libraries=done)


if __name__ == "__main__":
    main()
