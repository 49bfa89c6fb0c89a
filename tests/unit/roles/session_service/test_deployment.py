"""A change of release and configuration: judged before it is in place, taken back whole, made good when cut short."""

from __future__ import annotations

import grp
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import session_units
from ansible.module_utils.session_configuration import SERVED, environment_text, quoted, read_values, wanted_files
from ansible.module_utils.session_releases import ReleaseError, Releases
from ansible.module_utils.session_transaction import Transaction, Wanted
from ansible.module_utils.session_units import Unit

from tests.unit.roles.session_service.module_run import load, run_module

GROUP = grp.getgrgid(os.getegid()).gr_name
STOPPED = Unit("inactive", reload_needed=False, since=0.0)
SECRET = "a-secret-that-nobody-may-see"


class Host:
    """A service host below one folder: its program refuses a TTL of 0, and the test chooses what systemd says."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.configuration = folder / "root", folder / "etc"
        self.releases = Releases(self.root)
        self.transaction = Transaction(self.configuration / ".before")
        self.units = {session_units.SERVICE: STOPPED, session_units.SOCKET: STOPPED}
        self.flag_in_force: dict[str, Any] = {}
        self.ready = False
        self.module = load("session_deployment")
        self.capsys = capsys
        monkeypatch.setattr(self.module, "show_unit", self.units.__getitem__)
        monkeypatch.setattr(
            self.module, "ask_ready", lambda _url, _timeout: {"ready": self.ready, "flag": self.flag_in_force}
        )

    def has_release(self, name: str) -> None:
        program = self.releases.path(name) / "bin" / "session-ops"
        program.parent.mkdir(parents=True)
        program.write_text(
            '#!/bin/sh\n[ "$SESSION_TTL" != 0 ] || { echo "SESSION_TTL: must be at least 1 s, not 0" >&2; exit 2; }\n'
            f'[ "$(cat "$REDIS_PASSWORD_FILE")" = {SECRET} ] && [ -r "$SESSION_FLAG_FILE" ]\n'
        )
        program.chmod(0o755)

    def deploy(self, release: str, *, check: bool = False, ttl: int = 60, state: str = "current") -> dict[str, Any]:
        return run_module(
            self.module,
            self.capsys,
            check=check,
            state=state,
            root=self.root,
            configuration=self.configuration,
            release=release,
            group=GROUP,
            environment={"SESSION_TTL": ttl},
            flag={"USE_REDIS_SESSIONS": "true"},
            credentials={"redis-password": SECRET, "tokens": ""},
            url="http://127.0.0.1:9",
        )

    def environment(self) -> str:
        return (self.configuration / "environment").read_text()


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path, capsys, monkeypatch)
    host.has_release("a")
    return host


def test_a_fresh_host_gets_its_files_with_their_rights_and_a_second_run_changes_nothing(host: Host) -> None:
    assert host.deploy("a")["changed"]
    credentials = host.configuration / "credentials"
    assert host.releases.linked() == "a"
    assert (credentials.stat().st_mode & 0o777, (credentials / "redis-password").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    assert not (credentials / "tokens").exists()
    assert not host.deploy("a")["changed"]


def test_check_mode_on_a_fresh_host_foresees_the_change_and_makes_none(host: Host) -> None:
    assert host.deploy("not-installed-yet", check=True)["changed"]
    assert not host.configuration.exists()
    assert host.releases.linked() == ""


def test_a_setting_that_the_release_refuses_changes_nothing_and_is_named(host: Host) -> None:
    host.deploy("a")
    before = host.environment()
    host.has_release("b")
    result = host.deploy("b", ttl=0)
    assert result["failed"]
    assert "SESSION_TTL: must be at least 1 s" in result["msg"]
    assert (host.environment(), host.releases.linked()) == (before, "a")
    assert not host.transaction.open


def test_no_secret_is_in_what_the_module_answers(host: Host) -> None:
    result = host.deploy("a")
    assert "redis-password" in str(result["diff"])
    assert SECRET not in str(result)


def test_an_unproved_change_is_taken_back_with_its_configuration(host: Host) -> None:
    host.deploy("a")
    host.has_release("b")
    host.deploy("b", ttl=120)
    assert "SESSION_TTL=120" in host.environment()
    result = host.deploy("b", state="previous")
    assert (result["restored"], result["release"], result["unproved"]) == (True, "a", "b")
    assert "SESSION_TTL=60" in host.environment()
    assert not host.deploy("b", state="previous")["restored"]


def test_a_run_after_one_that_was_cut_short_goes_back_to_the_last_good_state(host: Host) -> None:
    host.deploy("a")
    host.has_release("b")
    host.deploy("b", ttl=120)  # and then the run ended before the service was seen ready
    host.has_release("c")
    host.deploy("c", ttl=180)
    host.deploy("c", state="previous")
    assert (host.releases.linked(), "SESSION_TTL=60" in host.environment()) == ("a", True)


def test_the_flag_is_seeded_once_and_never_written_over(host: Host) -> None:
    host.deploy("a")
    flag = host.configuration / "flag"
    flag.write_text("USE_REDIS_SESSIONS=false\n")
    assert not host.deploy("a")["changed"]
    assert flag.read_text() == "USE_REDIS_SESSIONS=false\n"


def test_a_service_older_than_its_configuration_is_restarted_even_when_this_run_changed_nothing(host: Host) -> None:
    host.deploy("a")
    host.units[session_units.SERVICE] = Unit("active", reload_needed=False, since=time.time() + 5)
    assert host.deploy("a")["service"] == "started"
    host.units[session_units.SERVICE] = Unit("active", reload_needed=True, since=time.time() - 5)
    result = host.deploy("a")
    assert (result["changed"], result["service"], result["daemon_reload"]) == (False, "restarted", True)


def test_only_units_that_run_and_are_enabled_are_settled(host: Host) -> None:
    host.deploy("a")
    running = Unit("active", reload_needed=False, since=time.time() + 5, enabled=True)
    host.units.update({session_units.SERVICE: running, session_units.SOCKET: running})
    assert host.deploy("a")["settled"]
    host.units[session_units.SOCKET] = STOPPED
    assert not host.deploy("a")["settled"]
    host.units[session_units.SOCKET] = Unit("active", reload_needed=False, since=running.since, enabled=False)
    assert not host.deploy("a")["settled"]


def test_nothing_is_left_to_do_only_when_the_service_has_proved_its_release(host: Host) -> None:
    host.deploy("a")
    running = Unit("active", reload_needed=False, since=time.time() + 5, enabled=True)
    host.units.update({session_units.SERVICE: running, session_units.SOCKET: running})
    assert not host.deploy("a")["proved"], "the service is not ready"
    host.ready = True
    assert host.deploy("a")["proved"]
    host.has_release("b")
    (host.releases.path("b") / ".complete").touch()
    assert not host.deploy("b", check=True)["proved"], "another release is foreseen"
    assert not host.deploy("a", ttl=70)["proved"], "the configuration has just changed"
    assert not host.deploy("a", ttl=70)["proved"], "the change waits to be proved"
    host.transaction.commit()
    assert host.deploy("a", ttl=70)["proved"]
    (host.configuration / SERVED).write_text("another\n")
    assert not host.deploy("a", ttl=70)["proved"], "it has served another generation"
    (host.configuration / SERVED).unlink()
    host.releases.path("half").mkdir()
    assert not host.deploy("a", ttl=70)["proved"], "a release is to be removed"


def test_a_service_that_keeps_dying_is_restarted(host: Host) -> None:
    host.units[session_units.SERVICE] = Unit("activating", reload_needed=False, since=0.0)
    assert host.deploy("a")["service"] == "restarted"


def test_a_flag_that_is_not_in_force_is_reloaded(host: Host) -> None:
    host.deploy("a")
    host.units[session_units.SERVICE] = Unit("active", reload_needed=False, since=time.time() + 5)
    host.flag_in_force = {"use_redis_sessions": True}
    assert host.deploy("a")["service"] == "started"
    host.flag_in_force = {"use_redis_sessions": False}
    assert host.deploy("a")["service"] == "reloaded"


def test_a_socket_moves_when_its_unit_is_newer_than_it_listens(host: Host, tmp_path: Path) -> None:
    unit = tmp_path / session_units.SOCKET
    unit.write_text("")
    listening = Unit("active", reload_needed=False, since=time.time() - 5)
    assert listening.older_than([unit])
    assert not Unit("active", reload_needed=False, since=time.time() + 5).older_than([unit])
    assert not STOPPED.older_than([unit])


def test_a_file_that_was_not_there_is_gone_again_after_a_restore(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    old.chmod(0o640)
    same = tmp_path / "same"
    Wanted(same, "same", 0o600, GROUP).place()
    age = same.stat().st_ctime_ns
    transaction = Transaction(tmp_path / ".before")
    transaction.save([old, new, same], [])
    Wanted(old, "changed", 0o600, GROUP).place()
    Wanted(new, "new", 0o600, GROUP).place()
    assert transaction.restore()
    assert (old.read_text(), old.stat().st_mode & 0o777, new.exists()) == ("old", 0o640, False)
    assert same.stat().st_ctime_ns == age
    assert not transaction.open


@pytest.mark.parametrize("value", ["plain", "two words", '$HOME `id` \\ "q"', "o'clock", ""])
def test_a_shell_reads_from_the_environment_file_what_was_set(value: str, tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text(quoted("NAME", value))
    assert os.popen(f'. {file}; printf %s "$NAME"').read() == value  # noqa: S605


@pytest.mark.parametrize("name", ["REDIS_PASSWORD", "SESSION_TOKENS_FILE", "lower", "A B"])
def test_a_secret_or_no_name_at_all_is_refused_in_the_environment_file(name: str) -> None:
    with pytest.raises(ReleaseError, match=name):
        environment_text({name: "x"})


def test_a_line_break_in_a_setting_is_refused() -> None:
    with pytest.raises(ReleaseError, match="one line"):
        environment_text({"NAME": "a\nOTHER=b"})


def test_an_empty_credential_is_removed_from_the_host(tmp_path: Path) -> None:
    wanted = {file.path.name: file for file in wanted_files(tmp_path, GROUP, {}, {}, {"tokens": "[]"})}
    assert wanted["tokens"].content == "[]"
    assert wanted["legacy-database-url"].content is None
    assert read_values("# a=b\n\nNAME=value\n") == {"NAME": "value"}
