#!/usr/bin/env python3
"""The lab's hosts as an Ansible inventory: addresses, keys and secrets come from `.lab/NAME/`.

NAME is $SESSION_OPS_LAB or `main`. Without a lab the groups are there and empty; `make lab` makes one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STATE = Path(__file__).resolve().parents[2] / ".lab" / os.environ.get("SESSION_OPS_LAB", "main")


def inventory() -> dict[str, Any]:
    """Return the inventory in the form that Ansible asks of a script."""
    groups: dict[str, Any] = {name: {"hosts": []} for name in ("redis", "session_service", "legacy", "backup_store")}
    hostvars: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    if (STATE / "known_hosts").exists():
        lab = json.loads((STATE / "lab.json").read_text())
        shared = json.loads((STATE / "secrets.yml").read_text()) | {
            "lab_id": lab["id"],
            "lab_state": str(STATE),
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(STATE / "id_ed25519"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={STATE}/known_hosts -o StrictHostKeyChecking=yes "
            "-o IdentitiesOnly=yes",
        }
        for host in lab["hosts"]:
            hostvars[host["name"]] = {"ansible_host": host["address"]}
            for group in host["groups"]:
                groups[group]["hosts"].append(host["name"])
    return groups | {"lab": {"children": list(groups), "vars": shared}, "_meta": {"hostvars": hostvars}}


if __name__ == "__main__":
    print(json.dumps(inventory()))
