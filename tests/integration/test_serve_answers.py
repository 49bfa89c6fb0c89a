"""What a served API says of its stores, and what it does not say."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from session_ops.stores.library import load_library
from tests.conftest import administrator_connection
from tests.integration.conftest import prepare
from tests.integration.service_process import TOKEN, ServiceProcess, answer_to, total, until
from tests.servers import SERVICE_PASSWORD, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable


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
        assert time.monotonic() - started < 5
        assert total(service.get("/metrics").text, "session_ops_store_up", store="redis") == 0
        assert service.get("/healthz").status_code == 200
        redis.start()
        until(lambda: service.get("/readyz").status_code == 200)
        until(lambda: service.get("/v1/sessions/abc").status_code == 404)  # in whichever worker
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


def test_a_service_that_misses_its_library_is_not_ready_and_says_so(
    make_service: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    redis = RedisServer(tmp_path / "own").start()
    try:
        service = make_service(redis).start()
        answer = service.get("/readyz")
        assert answer.status_code == 503
        assert "the function library is missing" in answer.json()["reasons"][0]
        assert answer.json()["stores"]["redis"]["library"] is False
        assert service.get("/v1/sessions/abc").status_code == 503
        asyncio.run(prepare(redis))
        until(lambda: service.get("/readyz").status_code == 200)

        # Redis starts empty: the functions are gone with the data, until the unit on its host has loaded them again
        redis.kill()
        shutil.rmtree(tmp_path / "own" / "appendonlydir")
        redis.start()
        until(lambda: "library is missing" in "".join(service.get("/readyz").json()["reasons"]))
        asyncio.run(load(redis))
        until(lambda: "has lost its data" in "".join(service.get("/readyz").json()["reasons"]))
        assert service.get("/readyz").status_code == 503
        assert service.get("/v1/sessions/abc").status_code == 503
    finally:
        redis.stop()


async def load(redis: RedisServer) -> None:
    administrator = administrator_connection(redis)
    await load_library(administrator)
    await administrator.close()
