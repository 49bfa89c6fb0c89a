"""An application's table with rows is the operator's to prepare: a new host says so, waits, and serves it then."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.fleet import lab

FRESH_AGAIN = (
    "systemctl disable --quiet --now session-service.socket session-service.service; "
    "rm -rf /etc/session-ops /opt/session-ops/current /opt/session-ops/previous /etc/systemd/system/session-service.*; "
    "systemctl daemon-reload"
)
TABLE = (
    "CREATE SCHEMA app AUTHORIZATION application; SET ROLE application; "
    "CREATE TABLE app.visits (sid TEXT PRIMARY KEY, uid TEXT NOT NULL, attributes JSONB NOT NULL, expires BIGINT); "
    "INSERT INTO app.visits VALUES ('visit-1', 'ada', jsonb_build_object('theme', 'dark'), 4102444800000)"
)
WANTED = {
    "session_service_legacy_table": "app.visits",
    "session_service_legacy_columns": "id=sid,user_id=uid,data=attributes,expires_at=expires",
}


def database(sql: str) -> str:
    return lab.inside("db1", f'runuser -u postgres -- psql -qtA -v ON_ERROR_STOP=1 application -c "{sql}"').strip()


def ask(path: str) -> httpx.Response:
    [address] = [host["address"] for host in lab.state()["hosts"] if host["name"] == "app1"]
    headers = {"Authorization": f"Bearer {lab.secrets()['lab_token']}"}
    return httpx.get(f"http://{address}:8080{path}", headers=headers, timeout=5, trust_env=False)


@pytest.fixture
def app1_is_new() -> Iterator[None]:
    """A host without a service, and an application with a session; afterwards the fleet is whole again."""
    lab.inside("app1", FRESH_AGAIN)
    database(TABLE)
    try:
        yield
    finally:
        lab.inside("app1", FRESH_AGAIN)
        database("DROP SCHEMA app CASCADE")
        run = lab.play("rollout.yml")
        assert run.status == 0, f"the fleet is not whole again:\n{run.output[-4000:]}"


@pytest.mark.usefixtures("app1_is_new")
def test_a_table_with_rows_waits_for_the_operator() -> None:
    with lab.inventory_says(**WANTED):
        run = lab.play("rollout.yml", "--limit", "app1")
        assert run.status != 0, "a host that cannot serve was rolled out"
        assert run.says("app1", "has rows and is not prepared", "run `session-ops migrate prepare`", "again"), (
            run.output[-4000:]
        )
        assert "USE_REDIS_SESSIONS=false" in lab.inside("app1", "cat /etc/session-ops/flag")
        ready = ask("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        assert "run `session-ops migrate prepare`" in ready.text
        assert ask("/v1/sessions/visit-1").status_code == 503
        columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'app'"
        assert database(columns) == "4", "the table was touched"

        lab.inside("app1", "session-ops migrate prepare --execute")
        again = lab.play("rollout.yml", "--limit", "app1")
        assert again.status == 0, again.output[-4000:]
        session = ask("/v1/sessions/visit-1")
        assert (session.status_code, session.json()["data"]) == (200, {"theme": "dark"})
        assert "USE_REDIS_SESSIONS=false" in lab.inside("app1", "cat /etc/session-ops/flag"), "nobody has set the flag"


def test_the_hosts_of_the_lab_serve_beside_its_database() -> None:
    row = database("SELECT mode, redis, generation > 0 FROM session_control")
    assert row == "mirror|on|t"
    assert database("SELECT stage, use_redis, percent FROM session_stage") == "prepared|t|100"
