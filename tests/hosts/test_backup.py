"""Backups of a Redis host, where playbooks/backup.yml has set them up: timer, files, and the last one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.hosts.probes import Entry, differing, exposure, unit_states

if TYPE_CHECKING:
    from testinfra.host import Host

    from tests.hosts.expectations import Expectations

testinfra_hosts = ["ansible://redis?sudo=true"]

CONFIGURATION, STATE = "/etc/session-backup", "/var/lib/session-backup"


@pytest.fixture(scope="module", autouse=True)
def backed_up(host: Host) -> None:
    """Leave out a host that has no backups."""
    if host.run("test -e /etc/systemd/system/session-backup.timer").rc != 0:
        pytest.skip("no backups are set up: playbooks/backup.yml")


def test_backups_are_made_by_themselves(host: Host) -> None:
    timer = unit_states(host, "session-backup.timer")["session-backup.timer"]
    assert (timer["ActiveState"], timer["UnitFileState"], timer["NeedDaemonReload"]) == ("active", "enabled", "no")


def test_the_last_backup_is_good_and_not_too_old(host: Host) -> None:
    status = json.loads(host.run("session-backup status --json").stdout)
    assert status["problems"] == []
    assert status["last"] or status["passed"]


def test_files_have_their_owners_and_modes(host: Host, expected: Expectations) -> None:
    user = expected["backup_redis_package"].partition("-")[0]
    wanted = {
        f"{CONFIGURATION}/backup.json": Entry("regular file", "0644", "root", "root"),
        f"{CONFIGURATION}/rclone.conf": Entry("regular file", "0640", "root", user),
        f"{STATE}/status.json": Entry("regular file", "0644", user, user),
        f"{STATE}/session_backup.prom": Entry("regular file", "0644", user, user),
    }
    if expected["backup_destination"].startswith("store:"):
        wanted[f"{CONFIGURATION}/id_ed25519"] = Entry("regular file", "0600", user, user)
    wrong = differing(host, wanted)
    assert wrong == [], "; ".join(wrong)


def test_backups_are_encrypted_to_the_keys_of_the_inventory(host: Host, expected: Expectations) -> None:
    settings = json.loads(host.check_output("cat %s", f"{CONFIGURATION}/backup.json"))
    assert settings["recipients"] == expected["backup_recipients"]


def test_no_private_key_and_no_snapshot_lies_on_the_host(host: Host) -> None:
    keys = host.run("grep -rls AGE-SECRET-KEY-1 /etc /root /home /srv %s", STATE).stdout
    # Older than any run that is under way
    left = host.run("find /var/lib/redis /var/lib/valkey %s -maxdepth 2 -name dump.rdb -mmin +60", STATE).stdout
    assert (keys, left) == ("", "")


def test_the_unit_is_closed(host: Host) -> None:
    assert exposure(host, "session-backup.service") <= 3.5
