"""Ansible action: everything that is wrong with a host, in one failure, before anything was touched."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from ansible.plugins.action import ActionBase

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_ANYWHERE = (str(ipaddress.IPv4Address(0)), str(ipaddress.IPv6Address(0)), "*")


def system_problems(facts: dict[str, Any], limits: dict[str, Any]) -> list[str]:
    """Check distribution, version, init and Python."""
    if facts["python"] is None:
        return [f"there is no Python at {facts['interpreter']}. On the host: apt-get install python3"]
    problems = []
    supported = {name.lower(): versions for name, versions in limits["supported"].items()}
    system = facts["system"]
    if system["version"] not in supported.get(system["id"], []):
        names = ", ".join(f"{name} {' or '.join(versions)}" for name, versions in limits["supported"].items())
        problems.append(f"the system is {system['id']} {system['version']}, supported is {names}. Use such a host.")
    minimum = [int(part) for part in limits["minimum_python"].split(".")]
    if facts["python"][: len(minimum)] < minimum:
        version = ".".join(map(str, facts["python"]))
        problems.append(
            f"Python is {version}, needed is {limits['minimum_python']}. Set ansible_python_interpreter to a newer one."
        )
    if facts["init"] != "systemd":
        problems.append(f"process 1 is {facts['init']}, not systemd. Boot the host with systemd.")
    return problems


def amount(text: str) -> int | None:
    """Return the bytes of an amount in Redis' units, None when it is none."""
    found = re.fullmatch(r"(\d+)([a-z]*)", str(text).strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found and found[2] in _UNITS else None


def memory_problems(facts: dict[str, Any], limits: dict[str, Any], wanted: str | None) -> list[str]:
    """Check redis_maxmemory against the host's memory."""
    if wanted is None:
        return []
    needed = amount(wanted)
    if not needed:
        return [f"redis_maxmemory is {wanted!r}. Give an amount such as 512mb or 4gb; Redis needs a limit."]
    allowed = int(facts["memory"] * limits["maximum_memory_share"])
    if needed <= allowed:
        return []
    there = f"{allowed // 1024**2} of this host's {facts['memory'] // 1024**2} MB"
    share = f"preflight_maximum_memory_share {limits['maximum_memory_share']}"
    return [f"redis_maxmemory is {wanted}, Redis may have {there} ({share}). Lower it, or give the host more memory."]


def disk_problems(facts: dict[str, Any], limits: dict[str, Any]) -> list[str]:
    """Check the room on every file system we write to."""
    minimum = limits["minimum_free_disk_mb"]
    return [
        f"{path} has {free} MB free, needed are {minimum} (preflight_minimum_free_disk_mb). Make room."
        for path, free in facts["free"].items()
        if free < minimum
    ]


def port_problems(facts: dict[str, Any], ports: list[dict[str, Any]]) -> list[str]:
    """Check that nobody else has the ports that our units will listen on.

    A socket that systemd itself holds (process 1) is ours when the unit is one of ours that it listens for.
    """
    problems = []
    for wanted in ports:
        for listener in facts["listeners"]:
            if listener["port"] != int(wanted["port"]) or not overlaps(listener["address"], wanted["addresses"]):
                continue
            strangers = [owner for owner in listener["owners"] if not ours(owner, wanted["units"])]
            if strangers or not listener["owners"]:
                who = strangers[0] if strangers else {"process": "an unknown process", "pid": "?", "unit": ""}
                unit = f", {who['unit']}" if who["unit"] else ""
                holder = f"{who['process']} (pid {who['pid']}{unit})"
                problems.append(
                    f"port {wanted['port']} on {listener['address']} is taken by {holder}. "
                    f"Stop it, or choose another {wanted['variable']}."
                )
    return problems


def ours(owner: dict[str, str], units: list[str]) -> bool:
    """Say whether a process that holds a port is one of ours; for a socket unit systemd itself holds it."""
    return owner["unit"] in units or (owner["pid"] == "1" and any(unit.endswith(".socket") for unit in units))


def overlaps(address: str, wanted: list[str]) -> bool:
    """Say whether a listener on `address` keeps us from listening on one of `wanted`."""
    return address in _ANYWHERE or address in wanted or any(other in _ANYWHERE for other in wanted)


def address_problems(facts: dict[str, Any]) -> list[str]:
    """Check that the host has the addresses it is to listen on."""
    return [
        f"it is to listen on {address}, which it does not have. Correct the variable that names it (redis_address, "
        "redis_bind_addresses, session_service_listen_address) or ansible_host."
        for address in facts["foreign_addresses"]
    ]


def package_problems(facts: dict[str, Any], packages: list[str]) -> list[str]:
    """Check that what is missing can be had."""
    if "valkey-server" in packages and facts["system"]["version"] == "12":
        return ["Debian 12 has no valkey-server. Set redis_package to redis-server, or use Debian 13."]
    missing = ", ".join(facts["missing_packages"])
    return [
        f"{missing} is not installed, and {source}. Make the package source reachable, or install it by hand."
        for source in facts["silent_sources"]
    ]


def clock_problems(name: str, clocks: dict[str, list[float]], limit: float) -> list[str]:
    """Check this host's clock against the controller's and against every other host's.

    A clock is known only within bounds (the round trip); it is wrong when even its nearer bound is too far off.
    """
    mine = clocks[name]
    problems = []
    lead = nearest_to_zero(mine)
    if abs(lead) > limit:
        side = "ahead of" if lead > 0 else "behind"
        found = f"its clock is {abs(lead):.1f} s {side} the controller's"
        return [f"{found}, allowed are {limit} s. Set it right (timedatectl, chrony)."]
    for other, bounds in sorted(clocks.items()):
        apart = nearest_to_zero([mine[0] - bounds[1], mine[1] - bounds[0]])
        if abs(apart) > limit:
            problems.append(
                f"its clock and that of {other} are {abs(apart):.1f} s apart, allowed are {limit} s. Set them right."
            )
    return problems


def nearest_to_zero(bounds: list[float]) -> float:
    """Return the value between the bounds that is nearest to zero."""
    low, high = bounds
    return low if low > 0 else min(high, 0.0)


def group_problems(groups: dict[str, list[str]]) -> list[str]:
    """Check that the inventory has the hosts that this fleet is made of."""
    problems = []
    redis, services = groups.get("redis", []), groups.get("session_service", [])
    if len(redis) != 1:
        found = f"the group redis has {len(redis)} hosts ({', '.join(redis)})"
        problems.append(f"{found}, standalone Redis is exactly one. Correct the inventory.")
    if not services:
        problems.append("the group session_service has no host. Put at least one into the inventory.")
    return problems


class ActionModule(ActionBase):
    """Puts all problems of a host together and fails with them."""

    _requires_connection = False
    _VALID_ARGS = frozenset(("problems", "facts", "limits", "ports", "packages", "maxmemory"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge the facts of this host; those of the others count for the clocks alone."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        name, args = variables["inventory_hostname"], self._task.args
        facts, limits = args["facts"], args["limits"]
        problems = [*args["problems"], *group_problems(variables["groups"]), *system_problems(facts, limits)]
        if facts["python"] is not None:
            problems += memory_problems(facts, limits, args["maxmemory"])
            problems += disk_problems(facts, limits) + address_problems(facts)
            problems += port_problems(facts, args["ports"]) + package_problems(facts, args["packages"])
        problems += clock_problems(name, self._clocks(variables), float(limits["maximum_clock_skew_seconds"]))
        if not problems:
            return {**result, "changed": False, "msg": f"{name} is fit"}
        counted = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = "\n".join(f"  - {problem}" for problem in problems)
        return {**result, "failed": True, "msg": f"{name}: {counted}, nothing was changed.\n{listed}"}

    def _clocks(self, variables: dict[str, Any]) -> dict[str, list[float]]:
        known = {
            host: variables["hostvars"][host].get("__preflight_host", {})
            for host in variables["ansible_play_hosts_all"]
        }
        return {host: facts["clock"] for host, facts in known.items() if "clock" in facts}
