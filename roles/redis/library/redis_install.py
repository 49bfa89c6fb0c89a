#!/usr/bin/python
"""Ansible module: install the packages of Redis without starting the service they bring."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: redis_install
short_description: Debian packages installed, their services not started
description:
  - Asks dpkg alone when everything is there, which takes 20 ms where apt's cache takes half a second to open.
  - A service that the package would start with Debian's own configuration stays off until the role has written ours.
  - In check mode it needs no package lists, so that it also works on a host that has never run apt.
options:
  names:
    description: The packages.
    type: list
    elements: str
    required: true
author: session-ops
"""
EXAMPLES = r"""
- name: Redis is installed
  redis_install:
    names: [redis-server]
"""
RETURN = r"""
missing:
  description: The packages that were not installed before.
  returned: always
  type: list
"""

_POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
# 101: "action forbidden by policy" (invoke-rc.d(8)).
_REFUSE = "#!/bin/sh\nexit 101\n"
_APT = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
_NO_QUESTIONS = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def missing(module: AnsibleModule, names: list[str]) -> list[str]:
    """Return those of the packages that dpkg does not have installed and configured."""
    _, out, _ = module.run_command(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names])
    installed = {line.split()[0] for line in out.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


@contextlib.contextmanager
def services_stay_off() -> Iterator[None]:
    """Keep packages from starting services; a policy the host already has is left alone."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text(_REFUSE, encoding="ascii")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def run(module: AnsibleModule, command: list[str]) -> None:
    """Run apt-get; a failure ends the module with apt's last words and the next step."""
    code, out, err = module.run_command(command, environ_update=_NO_QUESTIONS)
    if code != 0:
        complaints = [line for line in (out + err).splitlines() if line.startswith(("E:", "W:", "Err:"))]
        module.fail_json(
            msg=f"{' '.join(command)} failed: {'; '.join(complaints[-4:]) or err.strip()[-400:]}. "
            "Make the host's package source reachable (/etc/apt/sources.list) and run again."
        )


def main() -> None:
    """Install what is missing."""
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    names = missing(module, module.params["names"])
    if names and not module.check_mode:
        run(module, [*_APT, "-o", "Acquire::Retries=2", "-o", "APT::Update::Error-Mode=any", "update"])
        with services_stay_off():
            run(module, [*_APT, "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "install", *names])
    listed = "".join(f"{name}\n" for name in names)
    module.exit_json(changed=bool(names), missing=names, diff={"before": "", "after": listed})


if __name__ == "__main__":
    main()
