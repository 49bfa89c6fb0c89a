#!/usr/bin/python
"""Ansible module: a release is installed below the releases' root. The action plugin of this name brings the wheels."""

from __future__ import annotations

import fcntl
import os
import platform
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_releases import ReleaseError, Releases, python_version

DOCUMENTATION = r"""
module: session_release
short_description: A release is installed from the wheelhouse
description:
  - Installs the release that the wheelhouse on the controller holds into a virtual environment of its own, with every
    wheel checked against its sha256 and without any package index. The release in use is not touched.
  - Only the wheels that this host's Python and processor need travel to the host, only when the release is missing, and
    they are gone from it afterwards.
  - A wheel that is not what its hash says makes the task fail and leaves no half release; one whose installation was
    cut short is installed again.
options:
  root:
    description: Folder of the releases.
    type: path
    required: true
  wheelhouse:
    description: Folder on the controller that C(scripts/wheelhouse) built. Read by the action plugin.
    type: path
  python:
    description: Python that the release runs with.
    type: path
    default: /usr/bin/python3
  installed:
    description: Releases that the host is known to have, so that it is not asked again. Read by the action plugin.
    type: list
    elements: str
  release:
    description: Name of the release. Set by the action plugin.
    type: str
  archive:
    description: The wheels on the host, as a tar file. Set by the action plugin.
    type: path
author: session-ops
"""
EXAMPLES = r"""
- name: The release is installed
  session_release:
    root: /opt/session-ops
    wheelhouse: "{{ playbook_dir }}/../.wheelhouse"
"""
RETURN = r"""
release:
  description: Name of the release.
  returned: always
  type: str
missing:
  description: Whether the release still has to be installed.
  returned: always
  type: bool
python:
  description: MAJOR.MINOR of the Python that the release runs with.
  returned: when the host was asked
  type: str
machine:
  description: The host's processor.
  returned: when the host was asked
  type: str
"""


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        "root": {"type": "path", "required": True},
        "wheelhouse": {"type": "path"},
        "python": {"type": "path", "default": "/usr/bin/python3"},
        "installed": {"type": "list", "elements": "str"},
        "release": {"type": "str"},
        "archive": {"type": "path"},
    }
    module = AnsibleModule(spec, supports_check_mode=True, required_by={"archive": "release"})
    name = module.params["release"]
    if not name:
        module.fail_json(msg="release is missing: the action plugin of the role names it")
    os.umask(0o022)  # the service's user reads what root installs, whatever root's own umask is
    releases = Releases(Path(module.params["root"]))
    try:
        python = python_version(module.params["python"])
        missing = not releases.complete(name, python)
        if missing and module.params["archive"] and not module.check_mode:
            releases.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            with (releases.root / ".lock").open("w", encoding="utf-8") as guard:
                # Two runs at once: the second waits, and finds the release there.
                fcntl.flock(guard, fcntl.LOCK_EX)
                changed = not releases.complete(name, python)
                if changed:
                    releases.install(name, Path(module.params["archive"]), module.params["python"])
            missing = False
        else:
            changed = missing
    except ReleaseError as error:
        in_use = releases.linked() or "no release"
        module.fail_json(msg=f"release {name} is not installed, {in_use} stays in use: {error}")
    difference = {"before": "", "after": f"{releases.path(name)}\n"} if changed else {}
    module.exit_json(
        changed=changed,
        release=name,
        missing=missing,
        python=python,
        machine=platform.machine(),
        diff=difference,
    )


if __name__ == "__main__":
    main()
