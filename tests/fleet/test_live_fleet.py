"""A rollout on a fleet that serves: tried out, limited to a host, refused, and through several releases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.fleet import lab

RELEASES = "ls /opt/session-ops/releases"
ENVIRONMENT = "/etc/session-ops/environment"
OTHER_TTL = f"sed -i 's/^SESSION_TTL=86400$/SESSION_TTL=4/' {ENVIRONMENT}"


def ttl(host: str) -> str:
    return lab.inside(host, f"grep ^SESSION_TTL= {ENVIRONMENT}").strip()


def test_check_mode_shows_what_would_change_and_changes_nothing() -> None:
    before = lab.fingerprint()
    wanted = ("-e", "session_service_ttl=90000", "-e", "redis_maxmemory=128mb")
    run = lab.play("rollout.yml", "--check", "--diff", *wanted)
    assert run.status == 0, run.output[-4000:]
    for line in ("-SESSION_TTL=86400", "+SESSION_TTL=90000", "-maxmemory 268435456", "+maxmemory 128mb"):
        assert line in run.output, f"the difference does not show {line}:\n{run.output[-4000:]}"
    assert len(lab.changes(run)) == 3, "not every host says that it would change"
    assert lab.fingerprint() == before


def test_check_mode_foresees_no_change_where_there_is_none() -> None:
    run = lab.play("rollout.yml", "--check", "--diff")
    assert run.status == 0, run.output[-4000:]
    assert lab.changes(run) == []


def test_a_limited_run_puts_its_host_right_and_leaves_the_others_alone() -> None:
    for host in lab.SERVICE_HOSTS:
        lab.inside(host, OTHER_TTL)
    before = lab.fingerprint()
    run = lab.play("rollout.yml", "--limit", "app1")
    after = lab.fingerprint()
    assert run.status == 0, run.output[-4000:]
    assert ttl("app1") == "SESSION_TTL=86400"
    assert {name: after[name] for name in ("app2", "redis1")} == {name: before[name] for name in ("app2", "redis1")}
    rest = lab.play("rollout.yml")
    assert rest.status == 0, rest.output[-4000:]
    assert ttl("app2") == "SESSION_TTL=86400"
    assert [line.split()[0] for line in lab.changes(rest)] == ["app2"]


def wheelhouse(folder: Path, release: str) -> Path:
    """A copy of the wheelhouse with another name for its release: to the hosts, a new one."""
    copy = folder / release
    shutil.copytree(lab.ROOT / ".wheelhouse", copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | {"release": release}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (copy / "release").write_text(f"{release}\n")
    return copy


def test_a_release_with_a_changed_byte_is_refused_and_the_running_one_stays(tmp_path: Path) -> None:
    copy = wheelhouse(tmp_path, "9.9.9-changed")
    wheel = copy / json.loads((copy / "manifest.json").read_text())["own_wheel"]
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    before, releases = lab.fingerprint(), lab.inside("app1", RELEASES)
    run = lab.play("rollout.yml", "-e", f"session_service_wheelhouse={copy}")
    assert run.status != 0, "a changed wheel was rolled out"
    assert run.says("app1", "9.9.9-changed is not installed", "stays in use", "the wheels were refused"), run.output[
        -4000:
    ]
    assert lab.fingerprint() == before
    assert lab.inside("app1", RELEASES) == releases, "the refused release left something behind"


@pytest.mark.slow
def test_releases_are_rolled_out_host_by_host_and_three_are_kept(tmp_path: Path) -> None:
    names = ["9.9.1-test", "9.9.2-test", "9.9.3-test"]
    for name in names:
        with lab.inventory_says(session_service_wheelhouse=str(wheelhouse(tmp_path, name))):
            run = lab.play("rollout.yml")
        assert run.status == 0, run.output[-4000:]
        plays = run.output.split("PLAY [")
        live = [
            sorted(host for host in lab.SERVICE_HOSTS if f": [{host}]" in play)
            for play in plays
            if play.startswith("(5/")
        ]
        assert live == [["app1"], ["app2"]], "the hosts were not taken one after the other"
    for host in lab.SERVICE_HOSTS:
        assert lab.inside(host, RELEASES).split() == names
        links = lab.inside(host, "cd /opt/session-ops && readlink current previous").split()
        assert links == [f"releases/{names[2]}", f"releases/{names[1]}"]
    back = lab.play("rollout.yml")
    assert back.status == 0, f"the release that was built does not come back:\n{back.output[-4000:]}"
    assert {len(lab.inside(host, RELEASES).split()) for host in lab.SERVICE_HOSTS} == {3}
