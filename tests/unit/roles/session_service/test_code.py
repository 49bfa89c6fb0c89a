"""Back to a release that the host has kept: judged first, once and not to and fro, and good for a run that was cut."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import session_units
from ansible.module_utils.session_releases import Releases
from ansible.module_utils.session_units import Unit

from tests.unit.roles.session_service.module_run import load, run_module

PROGRAM = """#!/bin/sh
case $1 in
  migrate) [ {owns} = yes ] ;;
  *) [ "$SESSION_TTL" = 60 ] && [ "$(cat "$REDIS_PASSWORD_FILE")" = secret ] && [ -r "$SESSION_FLAG_FILE" ] \\
     || {{ echo "SESSION_TTL: refused" >&2; exit 2; }} ;;
esac
"""


class Host:
    """A service host below one folder, with releases `1`, `2` (in use) and `old`, which knows no ownership."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.configuration = folder / "root", folder / "etc"
        self.releases = Releases(self.root)
        self.module, self.capsys = load("session_code"), capsys
        for name in ("old", "1", "2"):
            self.has(name, owns="maybe" if name == "old" else "yes")
        for name in ("old", "1", "2"):
            self.releases.switch(name)
        self.configuration.joinpath("credentials").mkdir(parents=True)
        for name, text in (("environment", "SESSION_TTL=60\n"), ("flag", "USE_REDIS_SESSIONS=false\n")):
            (self.configuration / name).write_text(text)
        (self.configuration / "credentials" / "redis-password").write_text("secret")
        self.unit = Unit("active", reload_needed=False, since=time.time() + 60)
        monkeypatch.setattr(self.module, "show_unit", {session_units.SERVICE: self}.get)

    def older_than(self, paths: Any) -> bool:
        return self.unit.older_than(paths)

    def has(self, name: str, *, owns: str = "yes") -> None:
        program = self.releases.path(name) / "bin" / "session-ops"
        program.parent.mkdir(parents=True)
        program.write_text(PROGRAM.format(owns=owns))
        program.chmod(0o755)
        version = ".".join(map(str, sys.version_info[:2]))
        (self.releases.path(name) / ".complete").write_text(json.dumps({"python": version}))

    def go(self, release: str, *, check: bool = False, state: str = "current") -> dict[str, Any]:
        return run_module(
            self.module,
            self.capsys,
            check=check,
            root=self.root,
            configuration=self.configuration,
            release=release,
            state=state,
            python=sys.executable,
        )


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, capsys, monkeypatch)


def test_previous_twice_is_going_back_once(host: Host) -> None:
    first, second = host.go("previous"), host.go("previous")
    assert (first["changed"], first["before"], first["release"], first["restart"]) == (True, "2", "1", True)
    assert (second["changed"], second["release"], host.releases.linked()) == (False, "1", "1")


def test_check_mode_and_a_look_change_nothing_and_say_what_would(host: Host) -> None:
    would = host.go("1", check=True)
    assert (would["changed"], would["diff"]["before"], would["diff"]["after"]) == (True, "2\n", "1\n")
    known = host.go("old", state="known")
    assert (known["changed"], known["before_owns"], known["owns"]) == (False, True, False)
    assert host.go("", state="known")["release"] == "2"
    assert host.releases.linked() == "2"


def test_a_run_that_was_cut_before_its_restart_still_owes_it(host: Host) -> None:
    host.go("1")
    host.unit = Unit("active", reload_needed=False, since=time.time() - 60)
    again = host.go("1")
    assert (again["changed"], again["restart"]) == (False, True)


def test_what_is_not_there_or_refuses_the_settings_changes_nothing(host: Host) -> None:
    missing = host.go("9")
    assert missing["failed"]
    assert "9 is not on this host, which has 1, 2, old" in missing["msg"]
    (host.releases.root / "previous").unlink()
    assert "has had no release before" in host.go("previous")["msg"]
    (host.configuration / "environment").write_text("SESSION_TTL=0\n")
    refused = host.go("1")
    assert "2 stays in use: 1 refuses the settings of this host: SESSION_TTL: refused" in refused["msg"]
    assert host.releases.linked() == "2"
