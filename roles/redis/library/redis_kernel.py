#!/usr/bin/python
"""Ansible module: the kernel settings Redis warns about, now and after the next boot, where the host allows them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.redis_host_files import Ownership, ensure_file

DOCUMENTATION = r"""
module: redis_kernel
short_description: Kernel settings for Redis, live and persistent
description:
  - Sets each value in /proc/sys or /sys and keeps it over a boot in a file for systemd-sysctl or systemd-tmpfiles.
  - A host that does not let its kernel be changed, such as a container, is named once in a warning and left alone.
options:
  settings:
    description:
      - Kernel setting to value. C(>=511) is satisfied by anything larger, C(madvise|never) by either; the first one
        is what gets set. C(transparent_hugepage) is the one that is no sysctl.
    type: dict
    required: true
  sysctl_file:
    description: File for systemd-sysctl.
    type: path
    default: /etc/sysctl.d/60-redis.conf
  tmpfiles_file:
    description: File for systemd-tmpfiles.
    type: path
    default: /etc/tmpfiles.d/redis-kernel.conf
  root:
    description: Where proc and sys are mounted.
    type: path
    default: /
author: session-ops
"""
EXAMPLES = r"""
- name: The kernel suits Redis
  redis_kernel:
    settings:
      vm.overcommit_memory: "1"
      net.core.somaxconn: ">=511"
      transparent_hugepage: madvise|never
"""
RETURN = r"""
refused:
  description: Settings that have another value and cannot be changed on this host.
  returned: always
  type: list
"""

_HEADER = "# Kernel settings for Redis, written by session-ops.\n"
_HUGEPAGE = "sys/kernel/mm/transparent_hugepage/enabled"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One kernel setting: its name, its file, and what it should be."""

    name: str
    path: pathlib.Path
    wanted: str

    @property
    def value(self) -> str:
        """What to write."""
        return self.wanted.removeprefix(">=").split("|")[0]

    def current(self) -> str | None:
        """Return the value in force; None where this kernel has no such setting."""
        try:
            text = self.path.read_text(encoding="ascii").strip()
        except OSError:
            return None
        chosen = re.search(r"\[(\w+)\]", text)  # always [madvise] never
        return chosen[1] if chosen else text

    def satisfied(self) -> bool:
        """Say whether the value in force will do; a setting the kernel does not have needs nothing."""
        current = self.current()
        if current is None:
            return True
        if self.wanted.startswith(">="):
            return int(current) >= int(self.value)
        return current in self.wanted.split("|")

    def settable(self) -> bool:
        """Say whether the host lets this be changed: in a container /proc/sys and /sys are mounted read-only."""
        return os.access(self.path, os.W_OK)

    def persistent(self) -> str:
        """Return the line that sets it at boot."""
        if self.name == "transparent_hugepage":
            return f"w- /{_HUGEPAGE} - - - - {self.value}"
        return f"-{self.name} = {self.value}"


def located(settings: dict[str, object], root: pathlib.Path) -> list[Setting]:
    """Return the settings with the files that stand for them."""
    places = {
        name: _HUGEPAGE if name == "transparent_hugepage" else f"proc/sys/{name.replace('.', '/')}" for name in settings
    }
    return [Setting(name, root / places[name], str(wanted)) for name, wanted in settings.items()]


def put(setting: Setting) -> bool:
    """Write the value; says whether the kernel took it."""
    try:
        setting.path.write_text(setting.value, encoding="ascii")
    except OSError:
        return False
    return setting.satisfied()


def main() -> None:
    """Set what differs, persist what can be set, name what cannot."""
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "dict", "required": True},
            "sysctl_file": {"type": "path", "default": "/etc/sysctl.d/60-redis.conf"},
            "tmpfiles_file": {"type": "path", "default": "/etc/tmpfiles.d/redis-kernel.conf"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    settings = located(module.params["settings"], pathlib.Path(module.params["root"]))
    settable = [setting for setting in settings if setting.settable()]
    refused = [setting for setting in settings if setting not in settable and not setting.satisfied()]
    diff: list[dict[str, str]] = []
    for setting in settable:
        before = setting.current()
        if setting.satisfied():
            continue
        if not module.check_mode and not put(setting):
            refused.append(setting)
            continue
        diff.append({"before": f"{setting.name} = {before}\n", "after": f"{setting.name} = {setting.value}\n"})
    kept = [setting for setting in settable if setting not in refused]
    for path, persistent in (
        (module.params["sysctl_file"], [s.persistent() for s in kept if s.name != "transparent_hugepage"]),
        (module.params["tmpfiles_file"], [s.persistent() for s in kept if s.name == "transparent_hugepage"]),
    ):
        if not persistent:
            continue
        content = _HEADER + "".join(f"{line}\n" for line in persistent)
        old = ensure_file(pathlib.Path(path), content, Ownership("root", "root", "0644"), check=module.check_mode)
        if old is not None:
            diff.append({"before": old, "after": content, "before_header": path, "after_header": path})
    for setting in refused:
        module.warn(
            f"{setting.name} is {setting.current()}, Redis wants {setting.wanted}, and this host refuses to change it "
            "(a container?): set it on the machine beneath."
        )
    module.exit_json(changed=bool(diff), refused=[setting.name for setting in refused], diff=diff)


if __name__ == "__main__":
    main()
