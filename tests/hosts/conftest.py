"""The host suite's options, the host's expectations, and the journal that a failure prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from testinfra.utils.ansible_runner import AnsibleRunner

from tests.hosts.expectations import Expectations, Secret
from tests.hosts.probes import units_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from testinfra.host import Host

JOURNAL_LINES = 15
JOURNAL_SHOWN = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--hosts-limit`, which is to the suite what `--limit` is to a playbook."""
    parser.addoption(
        "--hosts-limit", metavar="HOST,HOST", help="verify only these hosts of the inventory (names, comma separated)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Print short tracebacks unless told otherwise: long ones print the fixtures' values, secrets among them."""
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "short"
    # testinfra calls ansible-inventory, which is where this Python is, activated or not.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def pytest_collection(session: pytest.Session) -> None:
    """Say it in one line when there is no host to verify."""
    runner = AnsibleRunner.get_runner(session.config.getoption("ansible_inventory"))
    if not runner.inventory["_meta"].get("hostvars"):
        raise pytest.UsageError("the inventory has no hosts: give --ansible-inventory, or make the lab with `make lab`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the hosts that `--hosts-limit` does not name."""
    limit = config.getoption("hosts_limit")
    if limit is None:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        host: Any = item.callspec.params.get("_testinfra_host") if hasattr(item, "callspec") else None
        (kept if host is None or host.backend.get_hostname() in limit.split(",") else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(scope="session")
def inventory(request: pytest.FixtureRequest) -> AnsibleRunner:
    """The inventory of `--ansible-inventory`, or the one ansible.cfg names."""
    return AnsibleRunner.get_runner(request.config.getoption("ansible_inventory"))


@pytest.fixture(scope="session")
def fleet(inventory: AnsibleRunner) -> dict[str, Expectations]:
    """The expectations of every host in the inventory, by name."""
    hostvars = {name: inventory.get_variables(name) for name in inventory.get_hosts("all")}
    return {name: Expectations(variables, hostvars) for name, variables in hostvars.items()}


@pytest.fixture(scope="session")
def service_hosts(request: pytest.FixtureRequest, fleet: dict[str, Expectations]) -> dict[str, Expectations]:
    """The service hosts under verification: with `--hosts-limit` the others may have another release, or none."""
    limit = request.config.getoption("hosts_limit")
    names = fleet if limit is None else limit.split(",")
    return {name: fleet[name] for name in names if "session_service" in fleet[name]["group_names"]}


@pytest.fixture(scope="module")
def expected(host: Host, fleet: dict[str, Expectations]) -> Expectations:
    """What the inventory and the roles' defaults say of this host, who may name a retired legacy store."""
    mine = fleet[host.backend.get_hostname()]
    if "session_service" not in mine["group_names"]:
        return mine
    retired = host.file(f"{mine['session_service_configuration_directory']}/final").exists
    return mine.without_legacy() if retired else mine


@pytest.fixture(scope="session")
def token(fleet: dict[str, Expectations]) -> Secret:
    """A caller's token for the round trip; the hosts themselves know only its digest."""
    given = os.environ.get("VERIFY_TOKEN")
    for expectations in fleet.values():
        given = given or expectations.get("verify_token") or expectations.get("lab_token")
    if not given:
        pytest.fail(
            "the round trip needs a caller's token with the scopes read and write: set VERIFY_TOKEN in the "
            "environment, or verify_token in the inventory's vault file",
            pytrace=False,
        )
    return Secret(given)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last journal lines of the host's units to its first failure; the later ones would repeat them."""
    report = yield
    funcargs: dict[str, Any] = getattr(item, "funcargs", {})
    if report.failed and "host" in funcargs and "expected" in funcargs:
        host = funcargs["host"]
        name = host.backend.get_hostname()
        shown = item.config.stash.setdefault(JOURNAL_SHOWN, set())
        if name not in shown:
            shown.add(name)
            report.sections.append((f"journal of {name}", journal(host, units_of(funcargs["expected"]))))
    return report


def journal(host: Host, units: list[str]) -> str:
    """The last lines of these units."""
    chosen = " ".join(f"--unit={unit}" for unit in units)
    try:
        text: str = host.run(f"journalctl --quiet --no-pager --lines={JOURNAL_LINES} {chosen}").stdout
    except RuntimeError as error:  # testinfra's word for: the host cannot be reached
        return f"no journal: {error}"
    return text or "no lines"
