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
