#!/usr/bin/python
"""Ansible module: what a service host has already, in one round trip."""

from __future__ import annotations

import importlib.util
import pwd
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_configuration import final_generation, generation_prefix, served_generation
from ansible.module_utils.session_releases import Releases
from ansible.module_utils.session_units import ask_ready, generation_number

DOCUMENTATION = r"""
module: session_host
short_description: What a service host has already
description:
  - Reads the release in use, the generation's prefix, whether the service is ready and whether virtual environments can
    be made. Changes nothing.
options:
  root:
    description: Folder of the releases.
    type: path
    required: true
  configuration:
    description: Folder of the configuration.
    type: path
    required: true
  url:
    description: Where the service answers, C(http://HOST:PORT).
    type: str
    required: true
  user:
    description: The service's user.
    type: str
    required: true
  python:
    description: Python that releases run with.
    type: path
    default: /usr/bin/python3
author: session-ops
"""
EXAMPLES = r"""
- name: It is known what the host has already
  session_host:
    root: /opt/session-ops
    configuration: /etc/session-ops
    url: http://192.0.2.10:8080
    user: session-service
  register: __session_service_host
"""
RETURN = r"""
release:
  description: The release in use, empty on a fresh host.
  returned: always
  type: str
prefix:
  description: The generation's prefix in the environment file, empty when there is none.
  returned: always
  type: str
served:
  description: The prefix of the generation that the service was last ready with, empty when it never was.
  returned: always
  type: str
final:
  description: The prefix of the generation with which the legacy store was retired, empty where it was not.
  returned: always
  type: str
ready:
  description: Whether the service answers that it can serve.
  returned: always
  type: bool
generation:
  description: The generation beside a legacy store that the service is ready with, 0 when there is none.
  returned: always
  type: int
installed:
  description: The releases that are installed to their end, for the Python that the host has now.
  returned: always
  type: list
user:
  description: Whether the service's user is there, without a shell.
  returned: always
  type: bool
venv:
  description: Whether the host can make virtual environments (package python3-venv).
  returned: always
  type: bool
package_lists:
  description: Whether the host knows any package to install.
  returned: always
  type: bool
units:
  description: Whether the units are there.
  returned: always
  type: bool
"""


def has_user(name: str) -> bool:
    """Say whether the user is there and cannot log in."""
    try:
        return pwd.getpwnam(name).pw_shell == "/usr/sbin/nologin"
    except KeyError:
        return False


def main() -> None:
    """Run the module."""
    spec: dict[str, Any] = {
        "root": {"type": "path", "required": True},
        "configuration": {"type": "path", "required": True},
        "url": {"type": "str", "required": True},
        "user": {"type": "str", "required": True},
        "python": {"type": "path", "default": "/usr/bin/python3"},
    }
    module = AnsibleModule(spec, supports_check_mode=True)
    configuration = Path(module.params["configuration"])
    releases = Releases(Path(module.params["root"]))
    release = releases.linked()
    answer = ask_ready(module.params["url"], 2.0) if release else {}
    module.exit_json(
        changed=False,
        release=release,
        installed=releases.installed(module.params["python"]),
        prefix=generation_prefix(configuration),
        served=served_generation(configuration),
        final=final_generation(configuration),
        ready=bool(answer.get("ready")),
        generation=generation_number(answer) if answer.get("ready") else 0,
        user=has_user(module.params["user"]),
        venv=importlib.util.find_spec("ensurepip") is not None,
        package_lists=any(Path("/var/lib/apt/lists").glob("*_Packages*")),
        units=Path("/etc/systemd/system/session-service.socket").is_file(),
    )


if __name__ == "__main__":
    main()
