"""Debian packages, installed without starting the services they bring."""

from __future__ import annotations

import contextlib
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible.module_utils.basic import AnsibleModule

_POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
# 101: "action forbidden by policy" (invoke-rc.d(8)).
_REFUSE = "#!/bin/sh\nexit 101\n"
_APT = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
_NO_QUESTIONS = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def missing(module: AnsibleModule, names: list[str]) -> list[str]:
    """Return those of the packages that dpkg does not have installed and configured.

    dpkg answers in 20 ms, where apt's cache takes half a second to open.
    """
    if not names:
        return []
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


def install(module: AnsibleModule, names: list[str]) -> None:
    """Install packages; their services stay off until the role has written the configuration."""
    run(module, [*_APT, "-o", "Acquire::Retries=2", "-o", "APT::Update::Error-Mode=any", "update"])
    with services_stay_off():
        run(module, [*_APT, "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "install", *names])


def run(module: AnsibleModule, command: list[str]) -> None:
    """Run apt-get; a failure ends the module with apt's last words and the next step."""
    code, out, err = module.run_command(command, environ_update=_NO_QUESTIONS)
    if code != 0:
        complaints = [line for line in (out + err).splitlines() if line.startswith(("E:", "W:", "Err:"))]
        module.fail_json(
            msg=f"{' '.join(command)} failed: {'; '.join(complaints[-4:]) or err.strip()[-400:]}. "
            "Make the host's package source reachable (/etc/apt/sources.list) and run again."
        )
