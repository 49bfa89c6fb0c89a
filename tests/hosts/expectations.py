"""What a host should be: the inventory's variables over the roles' defaults, with templates resolved by Ansible."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]
UNITS = {"kb": 1024, "mb": 1024**2, "gb": 1024**3, "k": 1000, "m": 1000**2, "g": 1000**3, "b": 1}


class Secret(str):
    """A string that no traceback and no assertion prints."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Expectations:
    """The variables of one host. A value is resolved when it is asked for, so that only what is used must resolve."""

    def __init__(self, variables: dict[str, Any], hostvars: dict[str, dict[str, Any]]) -> None:
        """`variables` are the host's from the inventory, `hostvars` those of every host; no round trip to a host."""
        self._host = variables["inventory_hostname"]
        known = role_defaults() | trusted(variables)
        # The magic variables that defaults refer to; there are no facts here, as in a rollout nothing gathers them.
        known |= {
            "hostvars": trusted(hostvars),
            "playbook_dir": str(ROOT / "playbooks"),
            "role_path": str(ROOT / "roles/redis"),
        }
        self._known = known
        self._templar = Templar(loader=DataLoader(), variables=known)

    def without_legacy(self) -> Expectations:
        """The same host once its legacy store was retired."""
        other = copy.copy(self)
        other._known = self._known | {"session_service_legacy_database_url": ""}
        return other

    def __getitem__(self, name: str) -> Any:
        """Return the value in force; a variable that is missing or does not resolve fails the test by name."""
        if name not in self._known:
            pytest.fail(f"{self._host}: neither the inventory nor a role's defaults set {name}", pytrace=False)
        try:
            return self._templar.template(self._known[name])
        except AnsibleError as error:
            pytest.fail(f"{self._host}: {name} of the inventory does not resolve: {error}", pytrace=False)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value in force, or `default` where nothing sets it."""
        return self[name] if name in self._known else default

    def secrets(self) -> dict[str, Secret]:
        """Every secret that the inventory gives this host, by the name of its variable; passwords inside URLs too."""
        found: dict[str, Secret] = {}
        for name in self._known:
            if not re.search(r"password|token$|secret|database_url", name) or "{{" in name:
                continue
            value = self[name]
            if not isinstance(value, str) or not value:
                continue
            password = re.fullmatch(r"[\w+]+://[^:/@]*:([^@]+)@.*", value)
            if password:
                found[f"{name} (password)"] = Secret(password.group(1))
            elif "://" not in value:
                found[name] = Secret(value)
        return found


def role_defaults() -> dict[str, Any]:
    """The defaults of all roles together: their prefixes keep them apart, and a host may refer to another role's."""
    defaults: dict[str, Any] = {}
    for path in sorted((ROOT / "roles").glob("*/defaults/main.yml")):
        defaults |= DataLoader().load_from_file(str(path), trusted_as_template=True) or {}
    return defaults


def trusted(value: Any) -> Any:
    """Mark the templates in the inventory's values as such: they come from the operator's own files."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return value


def redis_value(value: Any) -> str:
    """Write a setting the way `CONFIG GET` answers it: yes and no, bytes without a unit."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    size = re.fullmatch(r"(\d+)\s*([kmg]?b|[kmg])", str(value).lower())
    return str(int(size.group(1)) * UNITS[size.group(2)]) if size else str(value)
