#!/usr/bin/python
"""Ansible module: several files and folders of the Redis role in one round trip to the host."""

from __future__ import annotations

import pathlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_host_files import Ownership, ensure_directory, ensure_file

DOCUMENTATION = r"""
module: redis_files
short_description: Several files and folders with their owners and modes, in one round trip
description:
  - Compares and writes whole files whose content was rendered on the controller. One task instead of a dozen keeps a
    second run short. Not for secrets, since the difference is shown.
options:
  directories:
    description: Folders (path, owner, group, mode), made in this order before the files.
    type: list
    elements: dict
    default: []
  files:
    description: Files (path, content, owner, group, mode).
    type: list
    elements: dict
    default: []
author: session-ops
"""
EXAMPLES = r"""
- name: Redis finds its drop-in
  redis_files:
    files:
      - path: /etc/systemd/system/redis-server.service.d/session-ops.conf
        content: "{{ lookup('ansible.builtin.template', 'redis-server.conf.j2') }}"
"""
RETURN = r"""
paths:
  description: What changed, or would change.
  returned: always
  type: list
"""

_OWNERSHIP: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
_SPEC: dict[str, Any] = {
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {**_OWNERSHIP, "mode": {"type": "str", "default": "0755"}},
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            **_OWNERSHIP,
            "mode": {"type": "str", "default": "0644"},
            "content": {"type": "str", "required": True},
        },
    },
}


def main() -> None:
    """Bring every folder, then every file, to its wanted state."""
    module = AnsibleModule(argument_spec=_SPEC, supports_check_mode=True)
    paths: list[str] = []
    diff: list[dict[str, str]] = []
    for item in module.params["directories"]:
        ownership = Ownership(item["owner"], item["group"], item["mode"])
        if ensure_directory(pathlib.Path(item["path"]), ownership, check=module.check_mode):
            paths.append(item["path"])
            diff.append({"prepared": f"folder {item['path']}: {item['owner']}:{item['group']} {item['mode']}\n"})
    for item in module.params["files"]:
        ownership = Ownership(item["owner"], item["group"], item["mode"])
        before = ensure_file(pathlib.Path(item["path"]), item["content"], ownership, check=module.check_mode)
        if before is None:
            continue
        paths.append(item["path"])
        headers = {"before_header": item["path"], "after_header": item["path"]}
        if before == item["content"]:
            after = f"owner and mode: {item['owner']}:{item['group']} {item['mode']}\n"
            diff.append({**headers, "before": "", "after": after})
        else:
            diff.append({**headers, "before": before, "after": item["content"]})
    module.exit_json(changed=bool(paths), paths=paths, diff=diff)


if __name__ == "__main__":
    main()
