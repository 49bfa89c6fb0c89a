#!/usr/bin/python
"""Ansible module: give Redis its first configuration file, once; from then on Redis owns and rewrites it."""

from __future__ import annotations

import contextlib
import pathlib
import re
import socket

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_client import Client, RedisError
from ansible.module_utils.redis_host_files import Ownership, read, write

DOCUMENTATION = r"""
module: redis_seed
short_description: The first redis.conf
description:
  - Writes the file unless its first line says that it was seeded before.
  - Refuses on a host whose Redis has data that this configuration would not load (a Redis with an append-only file
    ignores an RDB file, measured 0 keys), since a taken-over Redis would start empty.
options:
  path:
    description: The configuration file.
    type: path
    required: true
  content:
    description: The whole configuration. Its first line is the mark.
    type: str
    required: true
  owner:
    description: Owner and group, the user Redis runs as.
    type: str
    required: true
  data_directory:
    description: Where Redis keeps its data.
    type: path
    required: true
author: session-ops
"""
EXAMPLES = r"""
- name: Redis has its first configuration
  redis_seed:
    path: /etc/redis/redis.conf
    content: "{{ lookup('ansible.builtin.template', 'redis.conf.j2') }}"
    owner: redis
    data_directory: /var/lib/redis
"""
RETURN = r""" # """

# An RDB file of an empty Redis has under 200 bytes.
_EMPTY = 512


def seeded(current: str | None, mark: str) -> bool:
    """Say whether the file carries our mark in its first line; CONFIG REWRITE keeps comments."""
    return current is not None and current.split("\n", 1)[0] == mark


def data_files(directory: pathlib.Path) -> list[str]:
    """Return the files in the data directory that hold keys."""
    files = [*directory.glob("*.rdb"), *directory.glob("*.aof"), *directory.glob("*/*.aof")]
    return sorted(str(file) for file in files if file.stat().st_size > _EMPTY)


def live_keys(current: str | None) -> list[str]:
    """Say what the Redis that runs with the present file has in memory: nothing, keys, or a password we do not know."""
    ports = re.findall(r"^port\s+(\d+)", current or "", re.MULTILINE)
    try:
        connection = socket.create_connection(("127.0.0.1", int(ports[-1]) if ports else 6379), timeout=5)
    except OSError:
        return []
    client = Client(connection)
    with contextlib.closing(client):
        try:
            keys = client.call("DBSIZE")
        except (OSError, RedisError) as error:
            return [f"port {connection.getpeername()[1]} answers: {error}"]
    return [f"{keys} keys in memory"] if keys else []


def main() -> None:
    """Seed the file where it is not ours yet."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "owner": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path, content = pathlib.Path(module.params["path"]), module.params["content"]
    current = read(path)
    if seeded(current, content.split("\n", 1)[0]):
        module.exit_json(changed=False)
    found = [*data_files(pathlib.Path(module.params["data_directory"])), *live_keys(current)]
    if found:
        module.fail_json(
            msg=f"this host already has a Redis with data ({', '.join(found)}), and {path} of this role would not load "
            "it. Nothing was changed. Move the data away, and bring it back as a backup once the role has set Redis up."
        )
    if not module.check_mode:
        write(path, content, Ownership(module.params["owner"], module.params["owner"], "0640"))
    module.exit_json(
        changed=True,
        diff={
            "before": "",
            "after": content,
            "before_header": str(path),
            "after_header": f"{path} (first configuration)",
        },
    )


if __name__ == "__main__":
    main()
