#!/usr/bin/python
"""Ansible module: a release that is installed is in use, with the configuration as it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_configuration import CREDENTIALS
from ansible.module_utils.session_releases import CLEAN_ENVIRONMENT, ReleaseError, Releases, replace_link
from ansible.module_utils.session_units import SERVICE, show_unit

DOCUMENTATION = r"""
module: session_code
short_description: A release that is installed is in use
description:
  - Points the link C(current) at another release that the host has kept, in one step, once that release has accepted
    the settings that are in place. The link C(previous) stays, so that going back to it twice is going back once.
  - Says whether the running service has not taken it up yet, judged by the host's state and not by what this run
    changed; and whether the releases know session ownership.
options:
  root:
    description: Folder of the releases.
    type: path
    required: true
  configuration:
    description: Folder of the configuration.
    type: path
    required: true
  release:
    description: Name of the release, or C(previous); empty for the one in use.
    type: str
    default: ""
  python:
    description: The Python that releases run with.
    type: path
    default: /usr/bin/python3
  state:
    description: C(known) changes nothing.
    type: str
    choices: [known, current]
    default: current
author: session-ops
"""
EXAMPLES = r"""
- name: The release from before is in use
  session_code:
    root: /opt/session-ops
    configuration: /etc/session-ops
    release: previous
"""
RETURN = r"""
before:
  description: The release in use before.
  returned: always
  type: str
release:
  description: The release that was asked for.
  returned: always
  type: str
before_owns:
  description: Whether the one in use before knows session ownership.
  returned: always
  type: bool
owns:
  description: Whether the one that was asked for does.
  returned: always
  type: bool
restart:
  description: Whether the service has to be restarted to run it.
  returned: always
  type: bool
"""
# The wrapper /usr/local/sbin/session-ops, for a release that is not in use.
CHECK = 'set -a; . "$1/environment"; . "$1/flag"; set +a; exec "$2" settings --check'


def find(releases: Releases, asked: str, python: str) -> str:
    """The name of the release that is asked for. Raises `ReleaseError` where the host does not have it."""
    current = releases.linked()
    if not asked:
        return current
    name = releases.linked("previous") if asked == "previous" else asked
    installed = releases.installed(python)
    if not name:
        raise ReleaseError("this host has had no release before: name one, or leave -e release= away")
    if name not in installed:
        raise ReleaseError(
            f"{name} is not on this host, which has {', '.join(installed) or 'none'}: name one of these, or roll it out"
            " from its own wheelhouse (playbooks/rollout.yml)"
        )
    return name


def owns(releases: Releases, name: str) -> bool:
    """Whether a release knows session ownership."""
    program = releases.path(name) / "bin" / "session-ops"
    if not name or not program.exists():
        return False
    asked = subprocess.run([program, "migrate", "--help"], capture_output=True, env=CLEAN_ENVIRONMENT, check=False)
    return asked.returncode == 0


def check(releases: Releases, name: str, configuration: Path) -> None:
    """Let the release judge the settings in place. Raises `ReleaseError` with what it says."""
    files = {f"{setting}_FILE": configuration / "credentials" / file for file, setting in CREDENTIALS.items()}
    variables = CLEAN_ENVIRONMENT | {setting: str(path) for setting, path in files.items() if path.exists()}
    variables["SESSION_FLAG_FILE"] = str(configuration / "flag")
    program = str(releases.path(name) / "bin" / "session-ops")
    command = ["/bin/sh", "-c", CHECK, "check", str(configuration), program]
    judged = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if judged.returncode != 0:
        said = (judged.stderr.strip() or judged.stdout.strip() or f"exit code {judged.returncode}")[-1500:]
        raise ReleaseError(f"{name} refuses the settings of this host: {said}")


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        "root": {"type": "path", "required": True},
        "configuration": {"type": "path", "required": True},
        "release": {"type": "str", "default": ""},
        "python": {"type": "path", "default": "/usr/bin/python3"},
        "state": {"type": "str", "choices": ["known", "current"], "default": "current"},
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    os.umask(0o022)
    releases, configuration = Releases(Path(module.params["root"])), Path(module.params["configuration"])
    link = releases.root / "current"
    before = releases.linked()
    try:
        name = find(releases, module.params["release"], module.params["python"])
        changed = module.params["state"] == "current" and name != before
        if changed:
            check(releases, name, configuration)
    except ReleaseError as error:
        module.fail_json(msg=f"{before or 'no release'} stays in use: {error}")
    if changed and not module.check_mode:
        replace_link(link, f"releases/{name}")
    difference = {
        "before_header": str(link),
        "after_header": str(link),
        "before": f"{before}\n",
        "after": f"{name if changed else before}\n",
    }
    module.exit_json(
        changed=changed,
        before=before,
        release=name,
        before_owns=owns(releases, before),
        owns=owns(releases, name),
        restart=changed or show_unit(SERVICE).older_than([link]),
        diff=difference if changed else {},
    )


if __name__ == "__main__":
    main()
