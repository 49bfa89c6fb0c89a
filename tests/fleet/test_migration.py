"""An application's live sessions move into Redis by the playbook, step by step, while the hosts serve them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fleet import lab
from tests.fleet.test_legacy_store import FRESH_AGAIN, WANTED, ask, database
from tests.pages import Page

REPORT = lab.ROOT / "out" / "migration-report.html"

pytestmark = pytest.mark.slow

ROWS = 3_000
TABLE = (
    "CREATE SCHEMA app AUTHORIZATION application; SET ROLE application; "
    "CREATE TABLE app.visits (sid TEXT PRIMARY KEY, uid TEXT NOT NULL, attributes JSONB NOT NULL, expires BIGINT); "
    "INSERT INTO app.visits SELECT 'visit-' || n, 'user-' || n % 100, jsonb_build_object('n', n), 4102444800000"
    f" FROM generate_series(1, {ROWS}) n"
)
HOME = (
    "SELECT count(*) FILTER (WHERE v.owner = 'redis' AND v.generation = c.generation),"
    " count(*) FILTER (WHERE v.bucket < {percent}) FROM app.visits v, app.session_control c"
    " WHERE NOT v.deleted"  # the host suite writes a session and deletes it
)


def migrate(*arguments: str, changes: bool = True) -> lab.Run:
    run = lab.play("migrate.yml", "-e", "migrate_watch_seconds=2", *arguments)
    assert run.status == 0, run.output[-5000:]
    assert bool(lab.changes(run)) is changes, run.output[-3000:]
    return run


def refused(*arguments: str) -> lab.Run:
    run = lab.play("migrate.yml", "-e", "migrate_watch_seconds=2", *arguments)
    assert run.status != 0, f"a gate that is closed let it through:\n{run.output[-3000:]}"
    return run


def flags() -> dict[str, str]:
    return {host: lab.inside(host, "grep -v ^# /etc/session-ops/flag").split()[-1] for host in lab.SERVICE_HOSTS}


def everywhere(percent: int) -> dict[str, str]:
    return dict.fromkeys(lab.SERVICE_HOSTS, f"SESSION_REDIS_PERCENT={percent}")


def in_redis(percent: int) -> tuple[int, int]:
    """How many sessions Redis owns, and of how many it should be the home."""
    owned, home = database(HOME.format(percent=percent)).split("|")
    return int(owned), int(home)


def status() -> dict[str, object]:
    shown: dict[str, object] = json.loads(lab.inside("app2", "session-ops migrate status --json"))
    return shown


@pytest.fixture
def hosts_are_new() -> Iterator[None]:
    """Hosts without a service, and an application with sessions; afterwards the fleet is whole again."""
    for host in lab.SERVICE_HOSTS:
        lab.inside(host, FRESH_AGAIN)
    database(TABLE)
    try:
        yield
    finally:
        for host in lab.SERVICE_HOSTS:
            lab.inside(host, FRESH_AGAIN)
        database("DROP SCHEMA app CASCADE")
        run = lab.play("rollout.yml")
        assert run.status == 0, f"the fleet is not whole again:\n{run.output[-4000:]}"


@pytest.mark.usefixtures("hosts_are_new")
def test_a_fleet_migrates_step_by_step() -> None:
    with lab.inventory_says(**WANTED):
        assert lab.play("rollout.yml").status != 0, "the table waits for the operator"
        migrate("-e", "migrate_to=prepare")
        rollout = lab.play("rollout.yml")
        assert rollout.status == 0, rollout.output[-4000:]

        plan = migrate(changes=False)
        assert "to take the step: -e migrate_to=1" in plan.output
        assert in_redis(1)[0] == 0

        checked = migrate("-e", "migrate_to=1", "--check", "--diff")
        assert "+USE_REDIS_SESSIONS=true SESSION_REDIS_PERCENT=1" in checked.output
        assert in_redis(1)[0] == 0, "check mode moved sessions"

        for percent in (1, 10):
            migrate("-e", f"migrate_to={percent}")
            owned, home = in_redis(percent)
            assert (owned, flags()) == (home, everywhere(percent))
            assert f"Run {status()['run']['run_id']}" in Page(REPORT.read_text()).text  # type: ignore[index]
            assert home > 0

        lab.inside("app2", FRESH_AGAIN)
        again = lab.play("rollout.yml", "--limit", "app2")
        assert again.status == 0, again.output[-4000:]
        assert flags() == everywhere(10), "a host that was set up anew has another flag than the fleet"
        migrate("-e", "migrate_to=10", changes=False)

        down = refused("-e", "migrate_to=1")
        assert down.says("the fleet is at 10 %", "playbooks/rollback.yml"), down.output[-3000:]
        lab.inside("app2", "systemctl stop session-service.socket session-service.service")
        closed = refused("-e", "migrate_to=100")
        assert closed.says("gate hosts: app2 does not serve", "nothing was changed"), closed.output[-3000:]
        lab.inside("app2", "systemctl start session-service.socket session-service.service")
        assert (flags(), in_redis(10)[0]) == (everywhere(10), in_redis(10)[1])

        migrate("-e", "migrate_to=100")
        assert (in_redis(100), flags()) == ((ROWS, ROWS), everywhere(100))
        assert (status()["stage"], ask("/v1/sessions/visit-7", host="app2").json()["data"]) == ("soak", {"n": 7})
        migrate("-e", "migrate_to=100", changes=False)
        lab.inside("app1", "session-ops migrate audit --last 0")
        finalized_and_back()


def finalize(*arguments: str) -> lab.Run:
    return lab.play("finalize.yml", "-e", "finalize_after=0", *arguments)


def session(host: str) -> object:
    return ask("/v1/sessions/visit-7", host=host).json()["data"]


def finalized_and_back() -> None:
    """The legacy store is retired, and comes back; each playbook changes nothing a second time."""
    run_id = str(status()["run"]["run_id"])  # type: ignore[index]
    named = ("-e", f"finalize_run={run_id}")
    early = lab.play("finalize.yml", *named)
    assert early.says("the soak is not over"), early.output[-3000:]
    other = finalize("-e", "finalize_run=another")
    assert other.says("'another' is not the last run of this migration"), other.output[-3000:]
    asked = finalize(*named)
    assert asked.says("this is one Redis without a replica", "-e finalize_accept_loss=true"), asked.output[-3000:]
    assert (status()["mode"], lab.changes(early), lab.changes(asked)) == ("mirror", [], [])

    meant = (*named, "-e", "finalize_accept_loss=true")
    assert finalize(*meant, "--check").status == 0
    assert status()["mode"] == "mirror", "check mode made it final"
    done = finalize(*meant)
    assert done.status == 0, done.output[-5000:]
    archive = f"/var/backups/session-ops/{run_id}.jsonl.gz"
    assert lab.inside("app1", f"cd {archive.rpartition('/')[0]} && sha256sum -c {archive}.sha256")
    assert int(lab.inside("app1", f"zcat {archive} | wc -l")) >= ROWS + 2
    for host in lab.SERVICE_HOSTS:
        assert lab.inside(host, "ls /etc/session-ops/credentials").split() == ["redis-password", "tokens"]
        assert json.loads(lab.inside(host, "session-ops migrate status --json"))["stage"] == "final"
    lab.inside("db1", "systemctl stop postgresql")
    try:
        assert [session(host) for host in lab.SERVICE_HOSTS] == [{"n": 7}, {"n": 7}]
        again = finalize(*meant)
        assert (again.status, lab.changes(again)) == (0, []), again.output[-4000:]
        rollout = lab.play("rollout.yml")
        assert (rollout.status, lab.changes(rollout)) == (0, []), rollout.output[-4000:]
        back = lab.play("rollback.yml")
        assert back.says("migrate_to=mirror"), back.output[-3000:]
    finally:
        lab.inside("db1", "systemctl start postgresql")

    mirrored = migrate("-e", "migrate_to=mirror")
    assert mirrored.says("a rollback is possible"), mirrored.output[-3000:]
    migrate("-e", "migrate_to=mirror", changes=False)
    rollout = lab.play("rollout.yml")
    assert (rollout.status, lab.changes(rollout)) == (0, []), rollout.output[-4000:]
    assert (status()["stage"], in_redis(100)) == ("soak", (ROWS, ROWS))
    back = lab.play("rollback.yml")
    assert back.status == 0, back.output[-4000:]
    assert (in_redis(0)[0], [session(host) for host in lab.SERVICE_HOSTS]) == (0, [{"n": 7}, {"n": 7}])
