#!/usr/bin/python
"""Ansible module: all that a host needs before Redis runs on it, in one round trip."""

from __future__ import annotations

import pathlib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_host_files import Ownership, ensure_directory, ensure_file
from ansible.module_utils.redis_kernel import located, tune
from ansible.module_utils.redis_packages import install, missing
from ansible.module_utils.redis_seed import refusal, seed

DOCUMENTATION = r"""
module: redis_host
short_description: Packages, kernel settings, files and first configuration of a Redis host
description:
  - One task where there might be a dozen. Each task of a playbook starts a Python on the host and packs one on the
    controller, which takes longer than all that this one looks at.
  - Refuses first of all, with nothing changed, a host whose Redis has data that the configuration would not load.
  - A service that a package would start with Debian's own configuration stays off until the role has written ours.
  - In check mode it needs no package lists, so that it also works on a host that has never run apt.
  - Not for secrets, since the difference is shown.
options:
  packages:
    description: Debian packages.
    type: list
    elements: str
    required: true
  kernel:
    description:
      - Kernel setting to value, set live in /proc/sys or /sys and kept over a boot. C(>=511) is satisfied by anything
        larger, C(madvise|never) by either; the first one is what gets set. C(transparent_hugepage) is the one that is
        no sysctl. A host that does not let its kernel be changed, such as a container, is named in a warning.
    type: dict
    default: {}
  kernel_root:
    description: Where proc and sys are mounted.
    type: path
    default: /
  sysctl_file:
    description: File for systemd-sysctl.
    type: path
    default: /etc/sysctl.d/60-redis.conf
  tmpfiles_file:
    description: File for systemd-tmpfiles.
    type: path
    default: /etc/tmpfiles.d/redis-kernel.conf
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
  configuration:
    description:
      - The first redis.conf (path, content, owner, data_directory). The first line of its content is the mark by which
        it is known; a file that carries it is never written again, because Redis owns and rewrites it.
    type: dict
  units:
    description: Units to ask systemd about once all else is done.
    type: list
    elements: str
    default: []
author: session-ops
"""
EXAMPLES = r"""
- name: The host is ready for Redis
  redis_host:
    packages: [redis-server]
    kernel:
      vm.overcommit_memory: "1"
    files:
      - path: /etc/systemd/system/redis-server.service.d/session-ops.conf
        content: "{{ lookup('ansible.builtin.template', 'redis-server.service.d.conf.j2') }}"
    units: [redis-server.service]
"""
RETURN = r"""
missing:
  description: The packages that were not installed before.
  returned: always
  type: list
refused:
  description: Kernel settings that have another value and cannot be changed on this host.
  returned: always
  type: list
paths:
  description: Folders and files that changed, or would change.
  returned: always
  type: list
settled:
  description: Whether every unit runs, will run after a boot, and is what systemd has read.
  returned: always
  type: bool
"""

_OWNERSHIP: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
_DIRECTORY: dict[str, Any] = {**_OWNERSHIP, "mode": {"type": "str", "default": "0755"}}
_FILE: dict[str, Any] = {
    **_OWNERSHIP,
    "mode": {"type": "str", "default": "0644"},
    "content": {"type": "str", "required": True},
}
_CONFIGURATION: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "owner": {"type": "str", "required": True},
    "data_directory": {"type": "path", "required": True},
}
_SPEC: dict[str, Any] = {
    "packages": {"type": "list", "elements": "str", "required": True},
    "kernel": {"type": "dict", "default": {}},
    "kernel_root": {"type": "path", "default": "/"},
    "sysctl_file": {"type": "path", "default": "/etc/sysctl.d/60-redis.conf"},
    "tmpfiles_file": {"type": "path", "default": "/etc/tmpfiles.d/redis-kernel.conf"},
    "directories": {"type": "list", "elements": "dict", "default": [], "options": _DIRECTORY},
    "files": {"type": "list", "elements": "dict", "default": [], "options": _FILE},
    "configuration": {"type": "dict", "options": _CONFIGURATION},
    "units": {"type": "list", "elements": "str", "default": []},
}

Difference = list[dict[str, str]]


def place(params: dict[str, Any], *, check: bool) -> tuple[list[str], Difference]:
    """Bring every folder, then every file, to its wanted state; returns what differed."""
    paths: list[str] = []
    diff: Difference = []
    for item in params["directories"]:
        ownership = Ownership(item["owner"], item["group"], item["mode"])
        if ensure_directory(pathlib.Path(item["path"]), ownership, check=check):
            paths.append(item["path"])
            diff.append({"prepared": f"folder {item['path']}: {item['owner']}:{item['group']} {item['mode']}\n"})
    for item in params["files"]:
        ownership = Ownership(item["owner"], item["group"], item["mode"])
        before = ensure_file(pathlib.Path(item["path"]), item["content"], ownership, check=check)
        if before is None:
            continue
        paths.append(item["path"])
        headers = {"before_header": item["path"], "after_header": item["path"]}
        if before == item["content"]:
            after = f"owner and mode: {item['owner']}:{item['group']} {item['mode']}\n"
            diff.append({**headers, "before": "", "after": after})
        else:
            diff.append({**headers, "before": before, "after": item["content"]})
    return paths, diff


def settled(module: AnsibleModule, units: list[str]) -> bool:
    """Say whether there is nothing to do about the units: they run, are enabled, and systemd has read their files."""
    wanted = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
    _, out, _ = module.run_command(["systemctl", "show", "--property", ",".join(wanted), "--", *units])
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in out.split("\n\n")]
    return len(blocks) == len(units) and all(block == wanted for block in blocks)


def main() -> None:
    """Refuse what must not be taken over, then bring the host to its state, step by step."""
    module = AnsibleModule(argument_spec=_SPEC, supports_check_mode=True)
    params, check = module.params, module.check_mode
    first = params["configuration"]
    if first:
        reason = refusal(pathlib.Path(first["path"]), first["content"], pathlib.Path(first["data_directory"]))
        if reason:
            module.fail_json(msg=reason)
    packages = missing(module, params["packages"])
    diff: Difference = [{"before": "", "after": "".join(f"{name}\n" for name in packages)}] if packages else []
    if packages and not check:
        install(module, packages)
    tuned = tune(
        located(params["kernel"], pathlib.Path(params["kernel_root"])),
        (params["sysctl_file"], params["tmpfiles_file"]),
        check=check,
    )
    for warning in tuned.warnings():
        module.warn(warning)
    paths, placed = place(params, check=check)
    diff += tuned.diff + placed
    if first:
        diff += seed(pathlib.Path(first["path"]), first["content"], first["owner"], check=check)
    module.exit_json(
        changed=bool(diff),
        missing=packages,
        refused=[setting.name for setting in tuned.refused],
        paths=paths,
        settled=settled(module, params["units"]),
        diff=diff,
    )


if __name__ == "__main__":
    main()
