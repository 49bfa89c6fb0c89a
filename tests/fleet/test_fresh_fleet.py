"""A second lab beside the first: its fresh hosts are tried out, interrupted, rolled out with Valkey, and removed.

It has no legacy store, so its Redis alone keeps the sessions.

One story, because a lab takes a minute to make. Its Redis host is on Debian 13, which has Valkey.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from tests.fleet import lab

BESIDE = "beside"
HOSTS = ("redis1", *lab.SERVICE_HOSTS)
# What a rollout would bring to a host; a fresh one has none of it.
TRACES = (
    "ls -d /opt/session-ops /etc/session-ops /etc/redis /etc/valkey /etc/systemd/system/session-* 2>/dev/null; "
    "dpkg-query --show --showformat='${Package} ${db:Status-Status}\\n' redis-server valkey-server python3-venv "
    "2>/dev/null | grep ' installed$'; getent passwd session-service; true"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def beside() -> Iterator[dict[str, str]]:
    """A second lab of this checkout; answers how the hosts of the first one were before there was a second."""
    before = lab.fingerprint()
    try:
        made = lab.command(
            *("ansible-playbook", "-i", lab.INVENTORY, "playbooks/lab/create.yml"),
            SESSION_OPS_LAB=BESIDE,
            SESSION_OPS_LAB_REDIS="13",
        )
        assert made.status == 0, made.output[-3000:]
        with lab.inventory_says(BESIDE, redis_package="valkey-server", lab_with_legacy=False):
            yield before
    finally:
        lab.play("lab/destroy.yml", lab=BESIDE)


def traces() -> dict[str, str]:
    return {name: lab.inside(name, TRACES, BESIDE) for name in HOSTS}


def test_two_labs_share_no_address(beside: dict[str, str]) -> None:
    first, second = lab.state(), lab.state(BESIDE)
    assert first["id"] != second["id"]
    assert not ipaddress.ip_network(first["subnet"]).overlaps(ipaddress.ip_network(second["subnet"]))


def test_check_mode_on_fresh_hosts_foresees_the_rollout_and_leaves_them_fresh(beside: dict[str, str]) -> None:
    run = lab.play("rollout.yml", "--check", "--diff", lab=BESIDE)
    assert run.status == 0, run.output[-4000:]
    assert len(lab.changes(run)) == len(HOSTS)
    assert traces() == dict.fromkeys(HOSTS, "")


@pytest.mark.parametrize("play", ["(2/", "(3/", "(4/"])
def test_a_first_rollout_may_be_interrupted_between_plays(beside: dict[str, str], play: str) -> None:
    lab.interrupt_before(play, lab=BESIDE)


def test_the_next_run_makes_it_good_with_valkey_and_the_one_after_changes_nothing(beside: dict[str, str]) -> None:
    run = lab.play("rollout.yml", lab=BESIDE)
    assert run.status == 0, f"the run does not converge (it ends with the host suite):\n{run.output[-4000:]}"
    assert lab.inside("redis1", "systemctl is-active valkey-server.service", BESIDE).strip() == "active"
    assert "redis-server" not in traces()["redis1"]
    again = lab.play("rollout.yml", lab=BESIDE)
    assert again.status == 0, again.output[-4000:]
    assert lab.changes(again) == []


def test_a_removed_lab_leaves_nothing_and_the_other_one_as_it_was(beside: dict[str, str]) -> None:
    gone = lab.state(BESIDE)["id"]
    run = lab.play("lab/destroy.yml", lab=BESIDE)
    assert run.status == 0, run.output[-3000:]
    assert gone not in lab.podman("ps", "--all", "--format", "{{.Names}}")
    assert gone not in lab.podman("network", "ls", "--format", "{{.Name}}")
    assert not (lab.STATE.parent / BESIDE).exists()
    assert lab.fingerprint() == beside
