"""`session-ops backup` as the timer and an operator call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from session_ops.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.backup.conftest import Rig


@pytest.fixture
def configuration(rig: Rig) -> Path:
    path = rig.directory / "backup.json"
    path.write_bytes(msgspec.json.encode(rig.configuration))
    return path


def call(*words: str | Path) -> Any:
    return CliRunner().invoke(main, ("backup", *map(str, words)))


def test_a_backup_is_made_when_it_is_asked_for_and_its_state_is_told(rig: Rig, configuration: Path) -> None:
    none = call("status", "--configuration", configuration)
    assert (none.exit_code, "there is no backup yet" in none.stdout) == (3, True)
    tried = call("take", "--configuration", configuration)
    assert (tried.exit_code, rig.files("")) == (0, [])
    assert "-- nothing was changed; add --execute" in tried.stdout

    taken = call("take", "--configuration", configuration, "--execute", "--json")
    assert taken.exit_code == 0, taken.output
    last = msgspec.json.decode(taken.stdout)["last"]
    assert "loading it" in taken.stderr
    shown = call("status", "--configuration", configuration)
    assert (shown.exit_code, last["name"] in shown.stdout, "40 sessions" in shown.stdout) == (0, True, True)
    assert msgspec.json.decode(call("status", "--configuration", configuration, "--json").stdout)["problems"] == []
    proved = call("verify", last["name"], "--identity", rig.identity, "--from", rig.store)
    assert (proved.exit_code, "it loads, and is what its manifest says" in proved.stdout) == (0, True)

    rig.files(".rdb.age")[0].write_bytes(b"short")
    assert "nothing was read" in call("check", "--configuration", configuration).stdout
    checked = call("check", "--configuration", configuration, "--execute")
    assert (checked.exit_code, "5 bytes, not" in checked.stderr) == (5, True)
    assert call("status", "--configuration", configuration).exit_code == 5
    again = call("take", "--configuration", configuration, "--execute")
    assert (again.exit_code, len(rig.files(".json"))) == (5, 2), again.output
    assert call("verify", last["name"], "--identity", rig.identity, "--from", rig.store).exit_code == 5


def test_what_is_wrong_has_its_code_and_one_line(rig: Rig, configuration: Path) -> None:
    settings = msgspec.json.decode(configuration.read_bytes())
    for change, code, says in (
        ({"recipients": ["AGE-SECRET-KEY-1"]}, 2, "is no public key of age"),
        ({"recipients": []}, 2, "recipients"),
        ({"more": 1}, 2, "more"),
        ({"interval": 0}, 2, "interval"),
        ({"socket": "/nowhere"}, 7, "systemctl status redis-server"),
        ({"password_file": "/nowhere"}, 3, "run this as root"),
        ({"destination": "/nowhere"}, 3, "directory not found"),
    ):
        configuration.write_bytes(msgspec.json.encode(settings | change))
        done = call("take", "--configuration", configuration, "--execute")
        assert (done.exit_code, says in done.stderr) == (code, True), done.output
        assert rig.redis is not None
        assert "the administrator's password" not in done.output
    gone = call("status", "--configuration", rig.directory / "none.json")
    assert (gone.exit_code, "playbooks/backup.yml writes it" in gone.stderr) == (2, True)
