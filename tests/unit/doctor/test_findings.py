"""Findings that no server of a test can be brought to, exit codes, and that every kind is told to the end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from session_ops.doctor.findings import AREAS, KINDS, code_of, finding
from session_ops.doctor.host_checks import clock_findings
from session_ops.doctor.redis_checks import info_findings
from session_ops.doctor.rights_checks import FORBIDDEN, NEEDED
from session_ops.stores.acl import SERVICE_ACL

ROOT = Path(__file__).resolve().parents[3]

GOOD = {
    "redis_version": "7.0.15", "used_memory": "1000000", "used_memory_rss": "1100000", "maxmemory": "512000000",
    "maxmemory_policy": "noeviction", "aof_enabled": "1", "aof_last_write_status": "ok", "evicted_keys": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "name", "severity"),
    [
        ({"redis_version": "6.2.1"}, "version-old", "error"),
        ({"redis_version": "6.2.1", "valkey_version": "8.1.1"}, None, None),
        ({"redis_version": "10.0.1"}, None, None),
        ({"used_memory": "300000000", "used_memory_rss": "700000000"}, "redis-fragmented", "warning"),
        ({"used_memory": "3000000", "used_memory_rss": "70000000"}, None, None),
        ({"used_memory": "420000000", "used_memory_rss": "420000000"}, "redis-memory", "warning"),
        ({"used_memory": "500000000", "used_memory_rss": "500000000"}, "redis-memory", "error"),
        ({"evicted_keys": "3"}, "redis-evicts", "error"),
        ({"aof_last_write_status": "err"}, "redis-not-saved", "error"),
        ({"aof_enabled": "0"}, "redis-not-saved", "error"),
        ({}, None, None),
    ],
)
def test_what_info_tells(changes: dict[str, str], name: str | None, severity: str | None) -> None:
    found = list(info_findings(GOOD | changes, "redis1:6379"))

    assert [(each.name, each.severity) for each in found] == ([(name, severity)] if name else [])


def test_the_worst_error_is_the_exit_code_and_warnings_have_none() -> None:
    warning, lost = finding("redis-no-limit", ""), finding("generation-lost", "")
    redis, legacy = finding("redis-unreachable", ""), finding("legacy-unreachable", "")
    mismatch, wrong = finding("stores-differ", ""), finding("settings-wrong", "")

    assert code_of([]) == 0
    assert code_of([warning]) == 0
    assert code_of([finding("stores-differ", "", "warning")]) == 0
    assert code_of([warning, lost]) == 3
    assert code_of([lost, mismatch]) == 5
    assert code_of([mismatch, redis, lost]) == 7
    assert code_of([redis, legacy, mismatch]) == 6
    assert code_of([legacy, wrong]) == 2


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_says_what_it_means_and_what_mends_it(name: str) -> None:
    kind = KINDS[name]

    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", name)
    assert kind.area in AREAS
    assert len(kind.means) > 20
    assert re.match(
        r"(session-ops|ansible-playbook|systemctl|journalctl|redis-cli|df|timedatectl|apt-get|SELECT) ", kind.mend
    )


def test_every_command_of_the_service_is_tried_and_none_of_the_forbidden_is_its_own() -> None:
    granted = {rule[1:] for rule in SERVICE_ACL.split() if rule.startswith("+")}

    assert set(NEEDED) == granted - {"client|setname", "select", "multi", "exec"}
    assert not {words[0].lower() for words in FORBIDDEN} & (granted - {"get"})


def test_clocks_are_compared_with_one_another() -> None:
    assert list(clock_findings({})) == []
    assert list(clock_findings({"Redis": 400.0, "the legacy store": -500.0})) == []
    [far] = clock_findings({"Redis": 1_400.0, "the legacy store": -700.0})
    assert (far.severity, far.says) == ("error", "Redis is 2.1 s ahead of the legacy store")
    [near] = clock_findings({"Redis": -1_100.0})
    assert (near.severity, near.says) == ("warning", "this host is 1.1 s ahead of Redis")


def test_the_guide_leads_from_every_symptom_to_a_finding_that_there_is() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}

    assert set(KINDS) <= anchors
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= anchors
