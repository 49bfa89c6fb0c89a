"""playbooks/rollback.yml on a fleet that serves: normal, repeated, with Redis gone, and back to older code."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.fleet import lab
from tests.fleet.test_legacy_store import ask, database

OLDER, UNAWARE = "0.0.9-older", "0.0.1-unaware"
OWNED = (
    "SELECT count(*) FROM sessions s, session_control c"
    " WHERE s.owner = 'redis' AND s.generation = c.generation AND NOT s.deleted"
)
STAGE = "SELECT stage, use_redis, percent FROM session_stage"
# The same code under another name: its programs lead to the Python of the release it was copied from.
COPY = f"cd /opt/session-ops/releases && cp -a $(basename $(readlink ../current)) {OLDER}"
OLD = (
    f"mkdir -p /opt/session-ops/releases/{UNAWARE}/bin && cd /opt/session-ops/releases/{UNAWARE} && "
    "cp ../../current/.complete . && printf '#!/bin/sh\\necho no such command >&2\\nexit 2\\n' > bin/session-ops && "
    "chmod 755 bin/session-ops"
)


def create(count: int) -> list[str]:
    """Make sessions through both hosts; their ids."""
    ids = []
    for number in range(count):
        host = lab.SERVICE_HOSTS[number % 2]
        answer = ask("/v1/sessions", host=host, method="POST", json={"user_id": "ada", "data": {"number": number}})
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
    return ids


def assert_served(ids: list[str]) -> None:
    for number, session in enumerate(ids):
        for host in lab.SERVICE_HOSTS:
            answer = ask(f"/v1/sessions/{session}", host=host)
            assert (answer.status_code, answer.json()["data"]["number"]) == (200, number), answer.text


def flags() -> set[str]:
    return {lab.inside(host, "grep ^USE_REDIS /etc/session-ops/flag").strip() for host in lab.SERVICE_HOSTS}


class Caller(threading.Thread):
    """Changes and reads a session through both hosts, without a pause, and counts what it is answered."""

    def __init__(self, session: str) -> None:
        super().__init__(daemon=True)
        self.answers: Counter[str] = Counter()
        self._session = session
        self._enough = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._enough.is_set():
            host = lab.SERVICE_HOSTS[number % 2]
            path, number = f"/v1/sessions/{self._session}", number + 1
            try:
                answer = ask(path, host=host, method="PATCH", json={"data": {"step": number}})
                self.answers[str(answer.status_code)] += 1
                read = ask(path, host=host)
                told = str(read.status_code) if read.status_code != 200 else ""
                told = told or ("read" if read.json()["data"].get("step") == number else "lost")
                self.answers[told] += 1
            except httpx.HTTPError as error:
                self.answers[type(error).__name__] += 1
            time.sleep(0.05)

    def end(self) -> Counter[str]:
        self._enough.set()
        self.join()
        return self.answers


def bring_on() -> None:
    """Redis is on, with every session's home in it, as after a rollout of the lab."""
    lab.inside("redis1", "systemctl start redis-server")
    if database("SELECT redis FROM session_control") != "on":
        lab.inside("app1", "session-ops generation bump --execute")
    database("UPDATE session_stage SET stage = 'prepared', use_redis = true, percent = 100")
    database("DELETE FROM session_steps")
    for host in lab.SERVICE_HOSTS:
        lab.inside(host, "session-ops flag set --on --percent 100 --execute --reload")
    until = time.monotonic() + 30
    while any(ask("/readyz", host=host).json()["stores"]["redis"]["state"] != "up" for host in lab.SERVICE_HOSTS):
        assert time.monotonic() < until, ask("/readyz").text
        time.sleep(0.2)


@pytest.fixture
def fleet_in_redis() -> Iterator[None]:
    bring_on()
    yield
    bring_on()


@pytest.mark.usefixtures("fleet_in_redis")
def test_a_fleet_is_rolled_back_while_it_serves_and_a_rollout_leaves_it_so() -> None:
    ids = create(20)
    assert int(database(OWNED)) >= 20
    tried = lab.play("rollback.yml", "--check", "--diff")
    assert tried.status == 0, tried.output[-4000:]
    assert "go home by the mover" in tried.output
    assert len(lab.changes(tried)) == 2, "not every flag is said to change"
    assert (int(database(OWNED)) >= 20, flags(), database(STAGE)) == (
        True,
        {"USE_REDIS_SESSIONS=true"},
        "prepared|t|100",
    )

    caller = Caller(ids[0])
    caller.start()
    run = lab.play("rollback.yml")
    answers = caller.end()
    assert run.status == 0, run.output[-4000:]
    assert set(answers) == {"200", "read"}, answers
    assert answers["read"] > 20
    assert run.output.index("go home by the mover") < run.output.index("PLAY [(3/6)"), "the plan comes first"
    assert (database(OWNED), flags(), database(STAGE)) == ("0", {"USE_REDIS_SESSIONS=false"}, "prepared|f|0")
    assert_served(ids)

    again = lab.play("rollback.yml")
    assert again.status == 0, again.output[-4000:]
    assert lab.changes(again) == []
    rollout = lab.play("rollout.yml")
    assert rollout.status == 0, rollout.output[-4000:]
    assert (lab.changes(rollout), flags(), database(OWNED)) == ([], {"USE_REDIS_SESSIONS=false"}, "0")


@pytest.mark.usefixtures("fleet_in_redis")
def test_with_redis_gone_a_fleet_is_rolled_back_by_force_and_stays_so_when_redis_returns() -> None:
    ids = create(20)
    generation = int(database("SELECT generation FROM session_control"))
    lab.inside("redis1", "systemctl stop redis-server")
    run = lab.play("rollback.yml", "-e", "redis_lost=true")
    assert run.status == 0, run.output[-4000:]
    assert_served(ids)
    control = "SELECT generation - $1, redis, pin IS NULL FROM session_control".replace("$1", str(generation))
    done = database(control)
    # The hosts may have given Redis up by themselves before the playbook came to it
    assert done in {"1|off|t", "2|off|t"}
    assert (flags(), database(STAGE)) == ({"USE_REDIS_SESSIONS=false"}, "prepared|f|0")
    again = lab.play("rollback.yml", "-e", "redis_lost=true")
    assert again.status == 0, again.output[-4000:]
    assert lab.changes(again) == []

    lab.inside("redis1", "systemctl start redis-server")
    time.sleep(5)
    normal = lab.play("rollback.yml")
    assert normal.status == 0, normal.output[-4000:]
    assert (lab.changes(normal), database(control)) == ([], done)
    assert_served(ids)


@pytest.fixture
def other_releases() -> Iterator[None]:
    for host in lab.SERVICE_HOSTS:
        lab.inside(host, f"{COPY}; {OLD}")
    yield
    rollout = lab.play("rollout.yml")
    for host in lab.SERVICE_HOSTS:
        lab.inside(host, f"cd /opt/session-ops && rm -rf releases/{OLDER} releases/{UNAWARE} previous")
    assert rollout.status == 0, rollout.output[-4000:]


@pytest.mark.slow
@pytest.mark.usefixtures("fleet_in_redis", "other_releases")
def test_code_goes_back_once_and_not_to_what_the_table_refuses() -> None:
    before = lab.fingerprint()
    unknown = lab.play("rollback.yml", "-e", "release=7.7.7")
    assert unknown.status != 0
    assert unknown.says("7.7.7 is not on this host", OLDER), unknown.output[-4000:]
    refused = lab.play("rollback.yml", "-e", f"release={UNAWARE}")
    assert refused.status != 0
    assert refused.says("does not know session ownership", "prepare --undo --execute", "Nothing was changed"), (
        refused.output[-4000:]
    )
    assert lab.fingerprint() == before

    run = lab.play("rollback.yml", "--diff", "-e", f"release={OLDER}")
    assert run.status == 0, run.output[-4000:]
    assert f"+{OLDER}" in run.output
    links = {lab.inside(host, "basename $(readlink /opt/session-ops/current)").strip() for host in lab.SERVICE_HOSTS}
    assert links == {OLDER}
    assert database(OWNED) == "0"
    again = lab.play("rollback.yml", "-e", f"release={OLDER}")
    assert again.status == 0, again.output[-4000:]
    assert lab.changes(again) == []
