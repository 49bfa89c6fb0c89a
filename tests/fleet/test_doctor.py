"""`session-ops doctor` on the hosts: nothing on a fleet that is well, and the name of what is wrong on a spoilt one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fleet import lab
from tests.fleet.spoils import ADMINISTRATOR
from tests.fleet.test_spoiled_hosts import MAXMEMORY

pytestmark = pytest.mark.slow

PATIENCE = 100.0
"""Seconds: a Redis that was given up is taken back when it has answered for a minute."""


@dataclass(frozen=True)
class Spoil:
    """What is done on `host`, how it is healed, where the doctor is asked, and the name that it finds."""

    finding: str
    host: str
    spoil: str
    heal: str
    asked: str = "app1"


SPOILS = [
    Spoil("redis-unreachable", "redis1", "systemctl stop redis-server", "systemctl start redis-server"),
    Spoil(
        "redis-password", "app1",
        "cd /etc/session-ops/credentials; cp -p redis-password /root/spoilt; printf nonsense > redis-password",
        "cp -p /root/spoilt /etc/session-ops/credentials/redis-password; rm /root/spoilt",
    ),
    Spoil(
        "redis-rights-missing", "redis1", ADMINISTRATOR + "redis ACL SETUSER session-service -zscore",
        ADMINISTRATOR + "redis ACL SETUSER session-service +zscore", asked="app2",
    ),
    Spoil(
        "functions-missing", "redis1", ADMINISTRATOR + "redis FUNCTION FLUSH",
        "systemctl restart session-functions.service",
    ),
    Spoil(
        "redis-memory", "redis1", ADMINISTRATOR + "redis CONFIG SET maxmemory 2mb",
        ADMINISTRATOR + f"redis CONFIG SET maxmemory {MAXMEMORY}",
    ),
    Spoil(
        "redis-not-saved", "redis1", ADMINISTRATOR + "redis CONFIG SET appendonly no",
        ADMINISTRATOR + "redis CONFIG SET appendonly yes", asked="app2",
    ),
    Spoil("legacy-unreachable", "db1", "systemctl stop postgresql", "systemctl start postgresql", asked="app2"),
    Spoil(
        "secret-readable", "app2", "chmod 0644 /etc/session-ops/credentials/redis-password",
        "chmod 0600 /etc/session-ops/credentials/redis-password", asked="app2",
    ),
    Spoil(
        "flag-not-read", "app1", "sed -i 's/PERCENT=100/PERCENT=7/' /etc/session-ops/flag",
        "sed -i 's/PERCENT=7/PERCENT=100/' /etc/session-ops/flag",
    ),
    Spoil(
        "service-down", "app2", "systemctl stop session-service.socket session-service.service",
        "systemctl start session-service.socket session-service.service", asked="app2",
    ),
    Spoil(
        "redis-off", "app1", "session-ops generation bump --no-redis --execute",
        "session-ops generation bump --execute", asked="app2",
    ),
]  # fmt: skip


def found(host: str) -> dict[str, str]:
    """What the doctor finds on a host: each name, and what was seen."""
    shown = json.loads(lab.inside(host, "session-ops doctor --json || true"))
    return {each["name"]: each["says"] for each in shown["findings"]}


def until_well(host: str) -> None:
    """Wait for what the hosts mend by themselves."""
    limit = time.monotonic() + PATIENCE
    while wrong := found(host):
        assert time.monotonic() < limit, wrong
        time.sleep(1)


@pytest.fixture
def spoilt(request: pytest.FixtureRequest) -> Iterator[Spoil]:
    spoil: Spoil = request.param
    until_well(spoil.asked)
    lab.inside(spoil.host, spoil.spoil)
    yield spoil
    lab.inside(spoil.host, spoil.heal)


@pytest.mark.parametrize("spoilt", SPOILS, ids=[spoil.finding for spoil in SPOILS], indirect=True)
def test_it_names_what_is_wrong_with_the_fleet(spoilt: Spoil) -> None:
    wrong = found(spoilt.asked)

    assert spoilt.finding in wrong
    secrets = [value for value in lab.secrets().values() if isinstance(value, str) and len(value) > 7]
    assert not any(secret in str(wrong) for secret in secrets)


def test_a_fleet_that_is_well_has_no_finding() -> None:
    for host in lab.SERVICE_HOSTS:
        until_well(host)


def test_a_bundle_of_a_host_has_its_journal_and_none_of_its_secrets() -> None:
    lab.inside("app1", "session-ops doctor --bundle /root/bundle.tar.gz && cd /root && tar xzf bundle.tar.gz")
    try:
        everything = lab.inside("app1", "cat $(find /root/session-ops-bundle -type f)")
        assert "session-service.service" in everything
        secrets = [value for value in lab.secrets().values() if isinstance(value, str) and len(value) > 7]
        assert len(secrets) > 2
        assert not any(secret in everything for secret in secrets)
    finally:
        lab.inside("app1", "rm -r /root/bundle.tar.gz /root/session-ops-bundle")
