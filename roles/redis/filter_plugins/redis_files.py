"""Filters of the Redis role: what goes into Redis' configuration file, its command line, and the names of libraries."""

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleFilterError

# redis.io/docs/latest/develop/programmability/functions-intro: the shebang names engine and library.
_SHEBANG = re.compile(r"#!lua\s+name=([A-Za-z0-9_]+)\s*$")


def library_name(code: str) -> str:
    """Return the name that a function library gives itself in its first line.

    Raises AnsibleFilterError when there is none: Redis would refuse the library.
    """
    found = _SHEBANG.match(code.split("\n", 1)[0])
    if not found:
        raise AnsibleFilterError("a function library of redis_function_libraries does not begin with '#!lua name=NAME'")
    return found[1]


def directives(settings: dict[str, Any]) -> list[str]:
    """Return lines of a configuration file, one for each setting."""
    return [f"{name} {_words(value)}" for name, value in settings.items()]


def start_arguments(settings: dict[str, Any], start_only: list[str]) -> str:
    """Return the settings that only a start can change, as arguments for a unit's ExecStart."""
    chosen = {name: _words(value) for name, value in settings.items() if name in start_only}
    # systemd.service(5): % and $ are special on a command line, doubled they stand for themselves.
    return " ".join(f"--{name} {value}" for name, value in chosen.items()).replace("%", "%%").replace("$", "$$")


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(_words(item) for item in value)
    return str(value) or '""'


class FilterModule:
    """The filters, by the names they have in templates."""

    def filters(self) -> dict[str, Any]:
        """Return the filters."""
        return {
            "redis_library_name": library_name,
            "redis_directives": directives,
            "redis_start_arguments": start_arguments,
        }
