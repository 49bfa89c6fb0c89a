"""The service beside a legacy store, as processes: not prepared, with flags that differ, and healing itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.owned_access import OwnedStore
from session_ops.settings import Flag
from session_ops.stores.legacy_database import Database
from tests.conftest import administrator_connection, service_connection
from tests.integration.service_process import total
from tests.servers import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.service_process import ServiceProcess

LEASE = 1.0


async def prepare_database(redis: RedisServer, url: str) -> None:
    """Make the tables, as `migrate prepare` does."""
    store = OwnedStore(service_connection(redis), Database(url), lambda: Flag(True, 100))
    await store.legacy.create_schema()
    await store.database.create(store.control_schema.create)
    await store.close()


@pytest.fixture
def legacy_url(tmp_path: Path, ready_redis: RedisServer) -> str:
    """A prepared legacy store that has not been bumped."""
    url = f"sqlite:///{tmp_path}/legacy.db"
    asyncio.run(prepare_database(ready_redis, url))
    return url


@pytest.fixture
def make_owned(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, legacy_url: str
) -> Callable[..., ServiceProcess]:
    """Starts services on both stores."""

    def make(**settings: str) -> ServiceProcess:
        settings = {"LEGACY_DATABASE_URL": legacy_url, "SESSION_LEASE": str(LEASE), **settings}
        return make_service(ready_redis, **settings).start()

    return make


def command(service: ServiceProcess, *arguments: str) -> dict[str, Any]:
    """What `session-ops ARGUMENTS --json` prints with the service's settings."""
    environment = {name: value for name, value in service.environment.items() if name != "NOTIFY_SOCKET"}
    done = subprocess.run(
        [sys.executable, "-m", "session_ops.cli", *arguments, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def until(done: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)


def test_a_legacy_store_that_is_not_prepared_is_named_with_the_command_that_prepares_it(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, tmp_path: Path
) -> None:
    service = make_service(ready_redis, LEGACY_DATABASE_URL=f"sqlite:///{tmp_path}/other.db").start()
    ready = service.get("/readyz")
    assert ready.status_code == 503
    assert "session-ops migrate prepare" in ready.json()["reasons"][0]
    refused = service.get("/v1/sessions/abc")
    assert refused.status_code == 503
    assert "migrate prepare" in refused.json()["detail"]


def test_a_legacy_store_that_is_gone_takes_the_host_out_and_shows_no_secret(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    url = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d"
    service = make_service(ready_redis, LEGACY_DATABASE_URL=url).start()
    answer = service.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["stores"]["legacy"]["state"] == "down"
    assert answer.json()["stores"]["redis"]["state"] == "down"
    assert "hunter2" not in answer.text


def test_sessions_move_with_the_flag_and_no_caller_notices(make_owned: Callable[..., ServiceProcess]) -> None:
    on, off = make_owned(), make_owned(USE_REDIS_SESSIONS="false")
    assert command(on, "generation", "bump", "--execute")["generation"] == 1
    until(lambda: command(on, "generation", "show")["redis_state"] == "up")

    made = on.apart.post("/v1/sessions", json={"user_id": "ann", "data": {"step": 1}})
    assert made.status_code == 201
    path = f"/v1/sessions/{made.json()['id']}"
    for step, host in enumerate((off, on, on, off, off, on), 2):
        changed = host.apart.patch(path, json={"data": {"step": step}})
        assert changed.status_code == 200, changed.text
        for reader in (on, off):
            read = reader.apart.get(path)
            assert (read.json()["data"], read.headers["etag"]) == ({"step": step}, changed.headers["etag"])
    assert on.apart.get("/v1/sessions", params={"user_id": "ann"}).json()["sessions"][0]["data"] == {"step": 7}
    assert off.apart.delete(path).status_code == 204
    assert {host.apart.get(path).status_code for host in (on, off)} == {404}
    moves = "session_ops_moves_total"
    assert total(on.get("/metrics").text, moves, owner="redis") > 0
    assert total(off.get("/metrics").text, moves, owner="legacy") > 0


def test_the_hosts_bump_by_themselves_when_redis_has_lost_its_data(
    make_owned: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_owned()
    command(service, "generation", "bump", "--execute")
    until(lambda: command(service, "generation", "show")["redis_state"] == "up")
    made = service.apart.post("/v1/sessions", json={"user_id": "ann", "data": {"step": 1}}).json()
    path = f"/v1/sessions/{made['id']}"

    async def flush() -> None:
        administrator = administrator_connection(ready_redis)
        await administrator.call("FLUSHALL", change=True)
        await administrator.close()

    asyncio.run(flush())
    until(lambda: bool(service.apart.get(path).status_code == 200))
    assert service.apart.get(path).json()["data"] == {"step": 1}
    shown = command(service, "generation", "show")
    assert (shown["generation"], shown["redis"]) == (2, "on")
    assert len(shown["bumped_at"]) == 1


def test_a_bump_without_redis_rolls_back_and_a_cancel_finds_nothing(make_owned: Callable[..., ServiceProcess]) -> None:
    service = make_owned()
    command(service, "generation", "bump", "--execute")
    until(lambda: command(service, "generation", "show")["redis_state"] == "up")
    made = service.apart.post("/v1/sessions", json={"user_id": "ann", "data": {"step": 1}}).json()
    answer = command(service, "generation", "bump", "--no-redis", "--execute")
    assert (answer["generation"], answer["prefix"]) == (2, None)
    assert service.apart.get(f"/v1/sessions/{made['id']}").json()["data"] == {"step": 1}
    assert command(service, "generation", "show")["redis"] == "off"
    assert command(service, "generation", "cancel", "--execute")["changed"] is False
