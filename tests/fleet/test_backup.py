"""playbooks/backup.yml on a fleet that serves: set up once, nothing to do twice, and a spoilt backup is noticed."""

from __future__ import annotations

import json
from pathlib import Path

from session_ops.backup.destination import Destination
from session_ops.backup.proof import prove
from tests.fleet import lab
from tests.fleet.test_legacy_store import ask
from tests.servers import command_of

STORE = "/srv/session-backups"


def status() -> dict[str, object]:
    told: dict[str, object] = json.loads(lab.inside("redis1", "session-backup status --json || true"))
    return told


def test_backups_are_set_up_once_can_be_proved_and_a_spoilt_one_is_noticed(tmp_path: Path) -> None:
    answer = ask("/v1/sessions", host="app1", method="POST", json={"user_id": "ada", "data": {"a": 1}})
    assert answer.status_code == 201, answer.text
    generation = ask("/readyz", host="app1").json()["stores"]["legacy"]["generation"]
    first = lab.play("backup.yml")
    assert first.status == 0, first.output[-4000:]
    lab.inside("redis1", "systemctl start session-backup")
    again = lab.play("backup.yml")
    assert again.status == 0, again.output[-4000:]
    assert lab.changes(again) == []
    after = ask("/readyz", host="app1").json()["stores"]["legacy"]["generation"]
    assert after == generation, "the hosts took it for another Redis"

    # What the place has is of use to whoever has the private key, and to nobody else
    name = str(status()["last"]["name"])  # type: ignore[index]
    for kind in (".json", ".rdb.age"):
        lab.podman("cp", f"{lab.container('db1')}:{STORE}/{name}{kind}", str(tmp_path))
    proof = prove(Destination(str(tmp_path)), name, lab.STATE / "backup.key", command_of("redis-7.0"))
    assert proof.sessions == proof.compared > 0
    owner = lab.inside("db1", f"stat -c '%U %a' {STORE}").split()
    assert owner == ["session-backup", "700"]

    lab.inside("db1", f"truncate -s -1 {STORE}/{name}.rdb.age")
    try:
        noticed = lab.inside("redis1", "systemctl start session-backup || session-backup status || true")
        assert f"spoilt: {name}" in noticed
        refused = lab.play("backup.yml")
        assert refused.status != 0
        assert refused.says(f"spoilt: {name}", "docs/backup.md"), refused.output[-3000:]
    finally:
        lab.inside("db1", f"rm {STORE}/{name}.json {STORE}/{name}.rdb.age")
        lab.inside("redis1", "systemctl start session-backup")
    assert status()["problems"] == []
