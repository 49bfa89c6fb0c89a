"""The host suite fails when a host is wrong, names what is wrong, and passes again when it is healed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet import lab
from tests.fleet.spoils import SPOILS, Spoil
from tests.hosts.expectations import redis_value

# The inventory's own value, so that the heal is right whatever the lab is set to.
MAXMEMORY = redis_value("256mb")


@pytest.fixture
def spoilt(request: pytest.FixtureRequest) -> Iterator[Spoil]:
    """Spoil the host, and heal it whatever the test finds."""
    spoil: Spoil = request.param
    lab.inside(spoil.host, spoil.spoil)
    yield spoil
    lab.inside(spoil.host, spoil.heal.replace("{redis_maxmemory}", MAXMEMORY))


@pytest.mark.parametrize("spoilt", SPOILS, ids=[spoil.name for spoil in SPOILS], indirect=True)
def test_the_host_suite_sees_that(spoilt: Spoil) -> None:
    run = lab.host_suite(spoilt.file, host=spoilt.host)
    failed = [line for line in run.output.splitlines() if line.startswith("FAILED") and spoilt.caught_by in line]
    assert failed, f"{spoilt.caught_by} did not fail:\n{run.output[-3000:]}"
    assert spoilt.host in failed[0], failed[0]
    assert spoilt.naming in run.output, f"the failure does not name {spoilt.naming!r}:\n{run.output[-3000:]}"


def test_a_failure_prints_the_journal_of_its_host() -> None:
    lab.inside("app1", "systemctl stop session-service.socket session-service.service")
    try:
        run = lab.host_suite("test_every_host.py", host="app1")
    finally:
        lab.inside("app1", "systemctl start session-service.socket session-service.service")
    assert "journal of app1" in run.output, run.output[-3000:]
    assert "session-service.service: Deactivated successfully" in run.output, run.output[-3000:]


def test_the_healed_fleet_passes_the_whole_suite() -> None:
    run = lab.host_suite()
    assert run.status == 0, run.output[-4000:]
