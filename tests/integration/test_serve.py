"""`session-ops serve` as a process over a real Redis: socket, workers, signals, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection, service_connection
from tests.integration.service_process import PATIENCE, TOKEN, ServiceProcess
from tests.servers import SERVICE_PASSWORD, RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def prepare(server: RedisServer) -> None:
    administrator = administrator_connection(server)
    await administrator.call("FLUSHALL", change=True)
    await load_library(administrator)
    await administrator.close()
    connection = service_connection(server)
    await RedisSessionRepository(connection, prefix="1-serve").open_generation()
    await connection.close()


@pytest.fixture
def ready_redis(redis_server: RedisServer) -> RedisServer:
    """The Redis of the run with an open generation."""
    asyncio.run(prepare(redis_server))
    return redis_server


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    made: list[ServiceProcess] = []

    def make(redis: RedisServer, **settings: str) -> ServiceProcess:
        made.append(ServiceProcess(tmp_path / str(len(made)), redis, **settings))
        return made[-1]

    yield make
    for service in made:
        service.close()


def total(text: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_two_workers_serve_one_inherited_socket_and_their_counts_are_summed(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_service(ready_redis, SESSION_WORKERS="2").start()
    assert len(service.workers()) == 2
    with service.client() as client:
        created = client.post("/v1/sessions", json={"user_id": "u", "data": {"a": 1}}).json()
    for _ in range(40):
        assert service.get(f"/v1/sessions/{created['id']}").json()["data"] == {"a": 1}
    for _ in range(8):  # whichever worker answers
        text = service.get("/metrics").text
        route = {"route": "/v1/sessions/{session_id}", "status": "200"}
        assert total(text, "session_ops_http_request_duration_seconds_count", **route) == 40
        assert total(text, "session_ops_workers") == 2
        assert total(text, "session_ops_sessions_created_total") == 1
    assert service.stop() == 0


def test_hup_reads_the_flag_again_in_every_worker_and_a_wrong_one_changes_nothing(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    flag.write_text("SESSION_REDIS_PERCENT=100\n")
    service = make_service(ready_redis, SESSION_WORKERS="2", SESSION_FLAG_FILE=str(flag)).start()
    flag.write_text("USE_REDIS_SESSIONS=false\nSESSION_REDIS_PERCENT=10\n")
    service.signal(signal.SIGHUP)
    assert [service.notified(), service.notified()] == ["RELOADING=1", "READY=1"]
    assert [service.event("flag_read")["session_redis_percent"] for _ in range(2)] == [10, 10]
    expected = {"use_redis_sessions": False, "session_redis_percent": 10}
    assert all(service.get("/readyz").json()["flag"] == expected for _ in range(8))
    flag.write_text("SESSION_REDIS_PERCENT=ten\n")
    service.signal(signal.SIGHUP)
    assert "SESSION_REDIS_PERCENT" in service.event("flag_refused")["reason"]
    assert service.get("/readyz").json()["flag"] == expected


@pytest.mark.parametrize("workers", ["1", "2"])
def test_term_finishes_running_requests_and_closes_idle_connections(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, workers: str
) -> None:
    service = make_service(ready_redis, SESSION_WORKERS=workers).start()
    body = b'{"user_id": "u"}'
    head = (
        f"POST /v1/sessions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", service.port), PATIENCE) as running,
        socket.create_connection(("127.0.0.1", service.port), PATIENCE) as idle,
    ):
        for connection in (running, idle):  # both are accepted, by whichever worker
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert answer_on(connection).startswith(b"HTTP/1.1 200")
        running.sendall(head.encode() + body[:5])
        # A request of which nothing has arrived yet is no running one: let its head be read.
        assert service.get("/healthz").status_code == 200
        service.signal(signal.SIGTERM)
        assert service.notified() == "STOPPING=1"
        assert idle.recv(1) == b""
        running.sendall(body[5:])
        assert answer_on(running).startswith(b"HTTP/1.1 201")
        assert service.wait() == 0


def test_a_request_that_does_not_end_is_cut_off_after_the_drain_timeout(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_service(ready_redis, SESSION_WORKERS="2", SESSION_DRAIN_TIMEOUT="0.5").start()
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as stuck:
        stuck.sendall(
            f"POST /v1/sessions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
            "content-type: application/json\r\ncontent-length: 5\r\n\r\n".encode()
        )
        assert service.get("/healthz").status_code == 200
        started = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - started < 4


def test_a_restart_refuses_no_connection(make_service: Callable[..., ServiceProcess], ready_redis: RedisServer) -> None:
    service = make_service(ready_redis).start()
    assert service.stop() == 0
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        service.notified()  # STOPPING=1
        service.start()
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_dead_worker_is_replaced_and_counted(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_service(ready_redis, SESSION_WORKERS="2").start()
    for _ in range(2):
        service.event("worker_started")
    before = service.workers()
    os.kill(before[0], signal.SIGKILL)
    assert service.event("worker_died")["status"] == -signal.SIGKILL
    service.event("worker_started")
    assert len(set(service.workers()) - set(before)) == 1
    assert total(service.get("/metrics").text, "session_ops_worker_restarts_total") == 1
    assert service.stop() == 0


def test_workers_do_not_outlive_their_parent(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_service(ready_redis, SESSION_WORKERS="2").start()
    service.signal(signal.SIGKILL)
    for _ in range(2):
        service.event("parent_gone")
    for _ in range(2):
        service.event("worker_stopped")


def test_ready_follows_redis_down_and_up_again_and_no_request_hangs(
    make_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    redis = RedisServer(tmp_path / "own").start()
    try:
        asyncio.run(prepare(redis))
        service = make_service(redis, SESSION_WORKERS="2").start()
        assert service.get("/readyz").status_code == 200
        redis.kill()
        until(lambda: service.get("/readyz").status_code == 503)
        answer = service.get("/readyz").json()
        assert answer["stores"]["redis"]["state"] == "down"
        assert answer["reasons"][0].startswith("redis: ")
        started = time.monotonic()
        refused = service.get("/v1/sessions/abc")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert time.monotonic() - started < 2
        assert total(service.get("/metrics").text, "session_ops_store_up", store="redis") == 0
        assert service.get("/healthz").status_code == 200
        redis.start()
        until(lambda: service.get("/readyz").status_code == 200)
        assert service.get("/v1/sessions/abc").status_code == 404
    finally:
        redis.stop()


def test_it_starts_without_redis_and_says_that_it_is_not_ready(
    make_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    redis = RedisServer(tmp_path / "never-started")
    service = make_service(redis).start()
    answer = service.get("/readyz")
    assert answer.status_code == 503
    assert f"127.0.0.1:{redis.port}" in answer.json()["reasons"][0]


def test_a_legacy_database_is_reported_by_itself(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, tmp_path: Path
) -> None:
    there = f"sqlite:///{tmp_path}/legacy.db"
    gone = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d"
    for url, state in ((there, "up"), (gone, "down")):
        service = make_service(ready_redis, LEGACY_DATABASE_URL=url).start()
        answer = service.get("/readyz")
        assert answer.status_code == 200
        assert answer.json()["stores"]["legacy"]["state"] == state
        assert "hunter2" not in answer.text


def test_what_is_no_http_and_what_is_too_long_is_a_problem_too(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_service(ready_redis, SESSION_HEADER_LIMIT="2048").start()
    long = b"x-long: " + b"x" * 3000 + b"\r\n"
    for request, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + long + b"\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"200"),
    ):
        assert answer_to(service, [request]).startswith(b"HTTP/1.1 " + status)
    endless = [b"GET /healthz HTTP/1.1\r\n", *[b"x-a: " + b"y" * 500 + b"\r\n"] * 10]
    refused = answer_to(service, endless)
    assert refused.startswith(b"HTTP/1.1 431")
    problem = json.loads(refused.partition(b"\r\n\r\n")[2])
    assert problem["type"] == "urn:session-ops:problem:too-large"


def test_a_large_body_is_no_large_head(make_service: Callable[..., ServiceProcess], ready_redis: RedisServer) -> None:
    service = make_service(ready_redis, SESSION_HEADER_LIMIT="2048").start()
    with service.client() as client:
        for _ in range(2):
            answer = client.post("/v1/sessions", json={"user_id": "u", "data": {"a": "x" * 50_000}})
            assert answer.status_code == 201


def test_nothing_secret_is_said(make_service: Callable[..., ServiceProcess], ready_redis: RedisServer) -> None:
    service = make_service(ready_redis, SESSION_LOG_LEVEL="debug", SESSION_WORKERS="2").start()
    with service.client() as client:
        session = client.post("/v1/sessions", json={"user_id": "u", "agent_id": "a", "data": {"k": "private"}}).json()
        client.delete(f"/v1/sessions/{session['id']}")
        client.post("/v1/sessions", content=b"{", headers={"content-type": "application/json"})
    pids = [service.pid, *service.workers()]
    command_lines = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)
    assert service.stop() == 0
    said = "".join(service.lines) + command_lines.decode()
    for secret in (TOKEN, SERVICE_PASSWORD, session["id"], "private"):
        assert secret not in said


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("setting", "value"), [("SESSION_TOKENS", "[{}]"), ("SESSION_AGENT_MANAGER", "mine"), ("SESSION_TTL", "x")]
)
def test_a_wrong_setting_ends_the_start_with_2_and_one_line(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer, *, workers: str, setting: str, value: str
) -> None:
    service = make_service(ready_redis, SESSION_WORKERS=workers, **{setting: value})
    done = subprocess.run(
        [sys.executable, "-m", "session_ops.cli", "serve"],
        env=service.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"session-ops: {setting}: ")
    assert done.stderr.count("\n") == 1


def test_an_address_in_use_ends_the_start_with_2(
    make_service: Callable[..., ServiceProcess], ready_redis: RedisServer
) -> None:
    service = make_service(ready_redis)
    environment = {**service.environment, "SESSION_LISTEN": f"127.0.0.1:{service.port}"}
    done = subprocess.run(
        [sys.executable, "-m", "session_ops.cli", "serve"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"session-ops: SESSION_LISTEN: cannot listen on 127.0.0.1:{service.port}: ")


def test_embedded_serves_with_a_redis_of_its_own_and_keeps_its_sessions(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "REDIS_DATA_DIR": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1"}
    ids = []
    for _ in range(2):
        address = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [sys.executable, "-m", "session_ops.cli", "serve", "--embedded"],
            env={**environment, "SESSION_LISTEN": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        token = process.stdout.readline().removeprefix("token: ").strip()
        assert json.loads(process.stderr.readline())["event"] == "worker_started"
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=PATIENCE) as client:
            client.post("/v1/sessions", json={"user_id": "u"})
            ids.append({session["id"] for session in client.get("/v1/sessions").json()["sessions"]})
        process.terminate()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert (len(ids[0]), len(ids[1])) == (1, 2)
    assert ids[0] < ids[1]


def until(condition: Callable[[], Any]) -> None:
    """Ask until it is so; there is no event to wait for on the far side of a network."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def answer_to(service: ServiceProcess, parts: list[bytes]) -> bytes:
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.005)  # so that they arrive one by one
        except ConnectionError:
            pass
        return answer_on(connection)


def answer_on(connection: socket.socket) -> bytes:
    """One answer, with as much of a body as its head announces."""
    answer = b""
    while True:
        head, end, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            return answer
        received = connection.recv(65536)
        if not received:
            return answer
        answer += received
