"""`session-ops serve` as a process: socket, workers, signals, and wrong settings."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.service_process import PATIENCE, TOKEN, ServiceProcess, answer_on, total
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable


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
        assert time.monotonic() - started < 10


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
