"""Every refusal says what is wrong and what to change; what is fit is not refused."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import load

verdict = load("roles/preflight/action_plugins/preflight_verdict.py")
LIMITS = {
    "supported": {"Debian": ["12", "13"]},
    "minimum_python": "3.11",
    "minimum_free_disk_mb": 100,
    "maximum_memory_share": 0.5,
}
MINE = ["redis-server.service"]


def facts(**changed: Any) -> dict[str, Any]:
    fit = {
        "python": [3, 11, 2],
        "interpreter": "/usr/bin/python3",
        "system": {"id": "debian", "version": "12"},
        "init": "systemd",
        "memory": 1024**3,
        "free": {"/var/lib/redis": 100},
        "listeners": [],
        "foreign_addresses": [],
        "missing_packages": [],
        "silent_sources": [],
    }
    return {**fit, **changed}


def listener(address: str = "0.0.0.0", port: int = 6379, unit: str = "nginx.service", pid: str = "7") -> dict[str, Any]:
    return {"address": address, "port": port, "owners": [{"process": "nginx", "pid": pid, "unit": unit}]}


def wanted(units: list[str], *addresses: str) -> list[dict[str, Any]]:
    return [{"port": 6379, "addresses": [*addresses] or ["10.0.0.1"], "units": units, "variable": "redis_port"}]


def test_a_fit_host_has_no_problem() -> None:
    assert verdict.system_problems(facts(), LIMITS) == []
    assert verdict.memory_problems(facts(), LIMITS, "512mb") == []
    assert verdict.disk_problems(facts(), LIMITS) == []
    assert verdict.port_problems(facts(), wanted(MINE)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"python": None}, "apt-get install python3"),
        ({"python": [3, 9, 2]}, "Python is 3.9.2, needed is 3.11"),
        ({"system": {"id": "debian", "version": "11"}}, "supported is Debian 12 or 13"),
        ({"system": {"id": "ubuntu", "version": "12"}}, "the system is ubuntu 12"),
        ({"init": "sh"}, "process 1 is sh"),
    ],
)
def test_an_unfit_system_is_refused(changed: dict[str, Any], said: str) -> None:
    (problem,) = verdict.system_problems(facts(**changed), LIMITS)
    assert said in problem


@pytest.mark.parametrize(
    ("maxmemory", "said"),
    [("513mb", "may have 512 of"), ("0", "needs a limit"), ("lots", "such as 512mb"), ("1tb", "such as")],
)
def test_too_much_memory_for_redis_is_refused(maxmemory: str, said: str) -> None:
    (problem,) = verdict.memory_problems(facts(), LIMITS, maxmemory)
    assert said in problem


def test_a_full_disk_is_refused() -> None:
    (problem,) = verdict.disk_problems(facts(free={"/opt": 99, "/var": 100}), LIMITS)
    assert problem.startswith("/opt has 99 MB free")


def test_a_port_that_another_process_has_is_refused() -> None:
    (problem,) = verdict.port_problems(facts(listeners=[listener()]), wanted(MINE))
    assert "port 6379 on 0.0.0.0 is taken by nginx (pid 7, nginx.service)" in problem
    assert "choose another redis_port" in problem


@pytest.mark.parametrize(
    ("found", "units"),
    [
        (listener(unit="redis-server.service"), MINE),
        (listener(port=6380), MINE),
        (listener(address="10.0.0.2"), MINE),
        (listener(unit="init.scope", pid="1"), ["session-service.socket"]),
    ],
)
def test_our_own_listener_and_others_elsewhere_are_left_alone(found: dict[str, Any], units: list[str]) -> None:
    assert verdict.port_problems(facts(listeners=[found]), wanted(units)) == []


def test_systemd_holding_a_port_for_something_else_than_a_socket_of_ours_is_refused() -> None:
    assert verdict.port_problems(facts(listeners=[listener(unit="init.scope", pid="1")]), wanted(MINE))


def test_a_listener_is_in_the_way_of_the_wildcard() -> None:
    assert verdict.port_problems(facts(listeners=[listener(address="10.0.0.9")]), wanted(MINE, "0.0.0.0"))


def test_a_package_that_cannot_be_had_is_refused() -> None:
    unreachable = facts(missing_packages=["redis-server"], silent_sources=["http://x does not answer (y)"])
    (problem,) = verdict.package_problems(unreachable, ["redis-server"])
    assert problem.startswith("redis-server is not installed, and http://x does not answer (y)")
    (problem,) = verdict.package_problems(facts(), ["valkey-server"])
    assert "use Debian 13" in problem


def test_an_address_the_host_does_not_have_is_refused() -> None:
    (problem,) = verdict.address_problems(facts(foreign_addresses=["10.9.9.9"]))
    assert "10.9.9.9, which it does not have" in problem


@pytest.mark.parametrize(
    ("clocks", "said"),
    [
        ({"a": [1.5, 1.7], "b": [0.0, 0.1]}, "1.5 s ahead of the controller's"),
        ({"a": [-9.2, -9.0], "b": [0.0, 0.1]}, "9.0 s behind"),
        ({"a": [-0.9, -0.8], "b": [0.8, 0.9]}, "that of b are 1.6 s apart"),
    ],
)
def test_a_wrong_clock_is_refused(clocks: dict[str, list[float]], said: str) -> None:
    (problem,) = verdict.clock_problems("a", clocks, 1.0)
    assert said in problem


def test_a_clock_that_may_be_right_is_not_refused() -> None:
    assert verdict.clock_problems("a", {"a": [-0.2, 3.0], "b": [-3.0, 0.2]}, 1.0) == []


def test_a_fleet_without_its_hosts_is_refused() -> None:
    assert verdict.group_problems({"redis": ["r"], "session_service": ["s"]}) == []
    assert len(verdict.group_problems({})) == 2
    (problem,) = verdict.group_problems({"redis": ["r", "q"], "session_service": ["s"]})
    assert "2 hosts (r, q)" in problem
