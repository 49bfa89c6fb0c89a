#!/usr/bin/python
"""Ansible module: a release is in use with its configuration, or the one before it is again."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.session_configuration import (
    check_settings,
    generation_prefix,
    read_values,
    served_generation,
    strings,
    wanted_files,
)
from ansible.module_utils.session_releases import ReleaseError, Releases
from ansible.module_utils.session_transaction import Transaction, Wanted
from ansible.module_utils.session_units import SERVICE, SOCKET, ask_ready, serves, show_unit

DOCUMENTATION = r"""
module: session_deployment
short_description: A release is in use with its configuration
description:
  - Lets the new release judge the new configuration, then puts the configuration in place and switches the link
    C(current) in one step. A refused configuration changes nothing.
  - What was there before is kept until M(session_readiness) has seen the service ready, so that I(state=previous) can
    bring it back, also in a later run than the one that was cut short.
  - Says what the running service has not taken up yet, judged by the host's state and not by what this run changed.
options:
  state:
    description: C(current) brings the release into use, C(previous) takes an unproved change back.
    type: str
    choices: [current, previous]
    default: current
  root:
    description: Folder of the releases.
    type: path
    required: true
  configuration:
    description: Folder of the configuration.
    type: path
    required: true
  release:
    description: Name of the release.
    type: str
  group:
    description: Group that may read the environment file.
    type: str
    default: root
  environment:
    description: Settings without secrets.
    type: dict
    default: {}
  flag:
    description: The flag as it is seeded on a fresh host; a flag file that is there stays as it is.
    type: dict
    default: {}
  credentials:
    description: Secrets by file name. An empty one is removed from the host.
    type: dict
    default: {}
  final:
    description: Prefix of the generation with which the legacy store was retired; empty where it was not.
    type: str
    default: ""
  files:
    description: Units and programs (path, content, mode), owned by root.
    type: list
    elements: dict
    default: []
  url:
    description: Where the service answers, C(http://HOST:PORT).
    type: str
  keep:
    description: How many releases to keep; more of them are something that is left to do.
    type: int
    default: 3
author: session-ops
"""
EXAMPLES = r"""
- name: The release is in use
  session_deployment:
    root: /opt/session-ops
    configuration: /etc/session-ops
    release: 1.2.0-0123abcd
    environment: {SESSION_TTL: "86400"}
    url: http://192.0.2.10:8080
"""
RETURN = r"""
service:
  description: The state that the service's unit has to be brought to.
  returned: when state is current
  type: str
daemon_reload:
  description: Whether systemd has to read the units again.
  returned: when state is current
  type: bool
settled:
  description: Whether both units are as they should be, so that there is nothing to do about them.
  returned: when state is current
  type: bool
proved:
  description:
    - Whether nothing changed and nothing is left to do at all. The units are settled, the service answers that it is
      ready with this generation, no earlier change waits to be proved, and there is no release to remove.
  returned: when state is current
  type: bool
restart_socket:
  description: Whether the socket's unit changed since it listens.
  returned: when state is current
  type: bool
release:
  description: The release in use now.
  returned: always
  type: str
"""
_FILE: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
}
_SPEC: dict[str, Any] = {
    "state": {"type": "str", "choices": ["current", "previous"], "default": "current"},
    "root": {"type": "path", "required": True},
    "configuration": {"type": "path", "required": True},
    "release": {"type": "str"},
    "group": {"type": "str", "default": "root"},
    "environment": {"type": "dict", "default": {}},
    "flag": {"type": "dict", "default": {}},
    "credentials": {"type": "dict", "default": {}, "no_log": True},
    "final": {"type": "str", "default": ""},
    "files": {"type": "list", "elements": "dict", "default": [], "options": _FILE},
    "url": {"type": "str"},
    "keep": {"type": "int", "default": 3},
}


class Deployment:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.parameters: dict[str, Any] = module.params
        self.folder = Path(self.parameters["configuration"])
        self.releases = Releases(Path(self.parameters["root"]))
        self.transaction = Transaction(self.folder / ".before")

    def current(self) -> dict[str, Any]:
        """Bring the release and its configuration into use; answers the module's result."""
        release = self.parameters["release"]
        environment = strings(self.parameters["environment"])
        configuration = wanted_files(
            self.folder,
            self.parameters["group"],
            environment,
            strings(self.parameters["flag"]),
            self.parameters["credentials"],
            final=self.parameters["final"],
        )
        files = [
            *configuration,
            *(Wanted(Path(f["path"]), f["content"], int(f["mode"], 8)) for f in self.parameters["files"]),
        ]
        changing = [file for file in files if file.differs()]
        before = self.releases.linked()
        difference = [file.difference() for file in changing]
        if before != release:
            header = str(self.releases.root / "current")
            difference.append(
                {
                    "before_header": header,
                    "after_header": header,
                    "before": before and f"{before}\n",
                    "after": f"{release}\n",
                }
            )
        program = self.releases.path(release) / "bin" / "session-ops"
        # On a fresh host in check mode the release that would judge is not there yet.
        if difference and (program.exists() or not self.module.check_mode):
            check_settings(program, environment, configuration)
        if difference and not self.module.check_mode:
            self.place(release, files, changing)
        owed = self.owed(files, changing=bool(changing))
        proved = not difference and owed["settled"] and self.proved()
        return {"changed": bool(difference), "diff": difference, "release": release, "proved": proved} | owed

    def place(self, release: str, files: list[Wanted], changing: list[Wanted]) -> None:
        """Put the files and the link in place. The link comes last: it is what a restart takes up."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        credentials = self.folder / "credentials"
        credentials.mkdir(mode=0o700, exist_ok=True)
        credentials.chmod(0o700)
        if self.releases.linked():
            links = (self.releases.root / "current", self.releases.root / "previous")
            self.transaction.save((file.path for file in files if file.path.name != "flag"), links)
        for file in changing:
            file.place()
        if self.releases.linked() != release:
            self.releases.switch(release)

    def owed(self, files: list[Wanted], *, changing: bool) -> dict[str, Any]:
        """Say what the running service and its socket have not taken up yet."""
        service, socket = show_unit(SERVICE), show_unit(SOCKET)
        paths = [file.path for file in files if file.path.name not in {"flag", "final", "session-ops", SOCKET}]
        folders = [self.folder / "credentials"]  # a credential that was removed shows there
        stale = service.older_than([*paths, *folders, self.releases.root / "current"])
        foreseen = self.module.check_mode and changing
        if stale or service.state in {"failed", "activating"} or (foreseen and service.since):
            state = "restarted"
        elif service.since and self.flag_differs():
            state = "reloaded"
        else:
            state = "started"
        moved = socket.older_than(file.path for file in files if file.path.name == SOCKET)
        return {
            "service": state,
            "daemon_reload": service.reload_needed or socket.reload_needed,
            "restart_socket": moved,
            "settled": state == "started" and service.settled and socket.settled and not moved,
        }

    @functools.cached_property
    def ready(self) -> dict[str, Any]:
        """What the service says of itself; asked once, and only where it runs."""
        return ask_ready(self.parameters["url"], 2.0)

    def proved(self) -> bool:
        """Say whether the running service has proved this release and configuration, so that nothing waits for that."""
        return (
            serves(self.ready)
            and not self.transaction.open
            and served_generation(self.folder) == generation_prefix(self.folder)
            and not self.releases.removable(self.parameters["keep"])
        )

    def flag_differs(self) -> bool:
        """Say whether the running service serves by another flag than its file says."""
        in_force = self.ready.get("flag")
        if not isinstance(in_force, dict):
            return False
        in_file = read_values((self.folder / "flag").read_text(encoding="utf-8"))
        return any(str(in_force.get(name.lower(), value)).lower() != value.lower() for name, value in in_file.items())

    def previous(self) -> dict[str, Any]:
        """Take back a change that did not prove itself; answers the module's result."""
        unproved, restored = self.releases.linked(), self.transaction.open
        if restored and not self.module.check_mode:
            self.transaction.restore()
        return {"changed": restored, "release": self.releases.linked(), "unproved": unproved, "restored": restored}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(_SPEC, supports_check_mode=True, required_if=[("state", "current", ["release", "url"])])
    os.umask(0o022)
    deployment = Deployment(module)
    try:
        result = deployment.previous() if module.params["state"] == "previous" else deployment.current()
    except ReleaseError as error:
        module.fail_json(msg=f"{deployment.releases.linked() or 'no release'} stays in use: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
