"""An application's table with rows is the operator's to prepare: a new host says so, waits, and serves it then."""

from __future__ import annotations

import time
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


def ask(path: str, *, host: str = "app1", method: str = "GET", json: object = None) -> httpx.Response:
    [address] = [each["address"] for each in lab.state()["hosts"] if each["name"] == host]
    headers = {"Authorization": f"Bearer {lab.secrets()['lab_token']}"}
    url = f"http://{address}:8080{path}"
    return httpx.request(method, url, json=json, headers=headers, timeout=5, trust_env=False)


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


def test_a_redis_that_starts_empty_gets_its_functions_back_and_takes_the_sessions_again() -> None:
    session = ask("/v1/sessions", method="POST", json={"user_id": "ada", "data": {"theme": "dark"}}).json()
    owner = (
        f"SELECT s.owner, s.generation = c.generation FROM sessions s, session_control c WHERE s.id = '{session['id']}'"
    )
    generation = int(database("SELECT generation FROM session_control"))
    assert database(owner) == "redis|t"

    lab.inside("redis1", "systemctl stop redis-server && rm -rf /var/lib/redis/* && systemctl start redis-server")

    def read_by_every_host() -> bool:
        return all(
            answer.status_code == 200 and answer.json()["revision"] == session["revision"]
            for answer in (ask(f"/v1/sessions/{session['id']}", host=host) for host in lab.SERVICE_HOSTS)
        )

    until = time.monotonic() + 30
    while not (read_by_every_host() and database(owner) == "redis|t"):
        assert time.monotonic() < until, f"{ask('/readyz').text}, {database(owner)}"
        time.sleep(0.2)
    assert int(database("SELECT generation FROM session_control")) == generation + 1
    suite = lab.host_suite()
    assert suite.status == 0, suite.output[-3000:]
