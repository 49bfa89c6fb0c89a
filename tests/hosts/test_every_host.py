"""What holds on every host, whatever it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.probes import Listener, exposure, listeners, redis_unit, unit_states, units_of

if TYPE_CHECKING:
    from testinfra.host import Host

    from tests.hosts.expectations import Expectations

testinfra_hosts = ["ansible://redis?sudo=true", "ansible://session_service?sudo=true", "ansible://legacy?sudo=true"]

# What a plain Debian host may have open beside what it is for. More of them: `verify_processes` in the inventory.
USUAL_PROCESSES = {
    "sshd",
    "systemd-resolve",
    "systemd-network",
    "systemd-timesyn",
    "chronyd",
    "ntpd",
    "dhclient",
    "dhcpcd",
}
SANDBOX_GOAL = 1.5


@pytest.fixture(scope="module")
def states(host: Host, expected: Expectations) -> dict[str, dict[str, str]]:
    return unit_states(host, *units_of(expected))


def ports_of(expected: Expectations) -> set[tuple[str, str, int]]:
    """The addresses and ports that the inventory gives the host's groups."""
    groups = expected["group_names"]
    ports: set[tuple[str, str, int]] = set()
    if "redis" in groups:
        ports |= {("tcp", str(address), int(expected["redis_port"])) for address in expected["redis_bind_addresses"]}
    if "session_service" in groups:
        ports.add(("tcp", str(expected["session_service_listen_address"]), int(expected["session_service_port"])))
    return ports


def is_usual(listener: Listener, expected: Expectations) -> bool:
    """Whether the port belongs to a process that any host may run, or to SSH's own socket unit."""
    usual = USUAL_PROCESSES | set(expected.get("verify_processes", []))
    ssh_port = int(expected.get("ansible_port", 22))
    names = set(listener.processes)
    return (bool(names) and names <= usual) or (listener.port == ssh_port and names <= usual | {"systemd"})


def test_every_unit_is_active_and_starts_at_boot(states: dict[str, dict[str, str]]) -> None:
    wrong = {
        unit: f"{state['LoadState']}, {state['ActiveState']}, {state.get('UnitFileState')}"
        for unit, state in states.items()
        # The socket starts the service, but a boot must not wait for the first caller.
        if (state["ActiveState"], state.get("UnitFileState")) != ("active", "enabled")
    }
    assert wrong == {}, f"units that are not active and enabled: {wrong}"


def test_every_unit_runs_with_the_files_on_disk(states: dict[str, dict[str, str]]) -> None:
    stale = [unit for unit, state in states.items() if state["NeedDaemonReload"] == "yes"]
    assert stale == [], "changed on disk since systemd read them: run `systemctl daemon-reload` and restart"


def test_the_services_are_sandboxed(host: Host, expected: Expectations) -> None:
    sandboxed = [unit for unit in units_of(expected) if unit in {"session-service.service", redis_unit(expected)}]
    open_units = {unit: score for unit in sandboxed if (score := exposure(host, unit)) > SANDBOX_GOAL}
    assert open_units == {}, f"exposure by `systemd-analyze security` above {SANDBOX_GOAL}: {open_units}"


def test_every_port_of_the_inventory_is_open(host: Host, expected: Expectations) -> None:
    opened = {(listener.protocol, listener.address, listener.port) for listener in listeners(host)}
    assert ports_of(expected) - opened == set(), "ports of the inventory that nothing listens on"


def test_no_other_port_is_open(host: Host, expected: Expectations) -> None:
    allowed = ports_of(expected)
    further = [
        str(listener)
        for listener in listeners(host)
        if (listener.protocol, listener.address, listener.port) not in allowed and not is_usual(listener, expected)
    ]
    assert further == [], "open ports that the inventory does not name (verify_processes allows a process)"
