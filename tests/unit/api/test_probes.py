"""The operation's routes: ready or not and why, metrics, the contract."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from session_ops.api import probes
from session_ops.readiness import Readiness
from session_ops.readiness_rules import RedisAlone
from session_ops.records import StoreState
from session_ops.service import SessionService
from session_ops.settings import Flag
from tests.unit.fake_repository import FakeRepository

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FLAG = Flag(use_redis_sessions=True, session_redis_percent=10)


async def test_health_does_not_ask_the_store(client: httpx.AsyncClient, repository: FakeRepository) -> None:
    repository.state = StoreState(state="down", reason="unreachable", details={})
    assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_ready_reports_each_store_the_release_and_the_flag(client: httpx.AsyncClient) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["ready"], body["reasons"], body["release"]) == (True, [], "1.0-abc")
    assert body["flag"] == {"use_redis_sessions": True, "session_redis_percent": 10}
    assert body["stores"]["redis"]["state"] == "up"
    assert body["stores"]["legacy"] == {"state": "absent"}


@pytest.mark.parametrize(
    ("state", "reason", "details", "expected"),
    [
        ("down", "unreachable", {}, "redis: unreachable at redis1:6379: check REDIS_HOST"),
        ("down", "no functions library", {"library": False}, "redis: the function library is missing at redis1:6379"),
        ("down", "no generation key", {"library": True, "prefix": "1-x"}, "redis: generation 1-x is not open"),
        ("down", "no prefix", {"library": True, "prefix": None}, "redis: no generation is named: set SESSION_GEN"),
    ],
)
async def test_not_ready_names_the_cause_and_the_next_step(
    client: httpx.AsyncClient,
    repository: FakeRepository,
    *,
    state: Any,
    reason: str,
    details: dict[str, Any],
    expected: str,
) -> None:
    repository.state = StoreState(state=state, reason=reason, details=details)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["stores"]["redis"]["state"] == "down"
    (given,) = answer.json()["reasons"]
    assert given.startswith(expected)


def readiness(repository: FakeRepository, legacy: Callable[[], Awaitable[StoreState]] | None) -> Readiness:
    return Readiness(
        SessionService(repository), repository.describe, lambda: FLAG, RedisAlone("a"), release="r", legacy=legacy
    )


async def test_a_dead_legacy_store_is_reported_and_takes_no_host_out(repository: FakeRepository) -> None:
    async def legacy() -> StoreState:
        return StoreState(state="down", reason="OperationalError", details={})

    report = await readiness(repository, legacy).report()
    assert report.ready
    assert report.stores["legacy"] == {"state": "down", "reason": "OperationalError"}
    assert report.reasons == ["legacy: OperationalError: check LEGACY_DATABASE_URL and the database's own log"]


async def test_many_who_ask_at_once_make_one_question(repository: FakeRepository) -> None:
    asked = 0

    async def legacy() -> StoreState:
        nonlocal asked
        asked += 1
        return StoreState(state="up", reason=None, details={})

    ready = readiness(repository, legacy)
    await asyncio.gather(*(ready.report() for _ in range(20)))
    assert asked == 1


async def test_metrics_name_everything_that_was_done(client: httpx.AsyncClient, session: dict[str, Any]) -> None:
    await client.get(f"/v1/sessions/{session['id']}")
    await client.get("/v1/sessions/unknown")
    answer = await client.get("/metrics")
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    latency = "session_ops_http_request_duration_seconds_count"
    route = "/v1/sessions/{session_id}"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert samples[latency, ("GET", route, "200")] == 1
    assert samples[latency, ("GET", route, "404")] == 1
    assert samples["session_ops_store_operation_duration_seconds_count", ("get", "redis")] == 2
    assert samples["session_ops_sessions_active", ()] == 1
    assert samples["session_ops_sessions_created_total", ()] == 1
    assert samples["session_ops_flag_redis_percent", ()] == 10
    assert samples["session_ops_store_up", ("redis",)] == 1
    assert session["id"] not in answer.text


async def test_made_up_methods_and_paths_make_no_new_series(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await client.get(f"/nowhere/{number}")
        await client.request(f"BREW{number}", "/healthz")
    text = (await client.get("/metrics")).text
    assert 'route="none"' in text
    assert "nowhere" not in text
    assert "BREW" not in text


async def test_the_contract_is_served_as_it_is_written(client: httpx.AsyncClient) -> None:
    source = Path(probes.__file__).with_name("openapi.yaml")
    served = await client.get("/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert msgspec.json.decode(served.content) == yaml.safe_load(source.read_text())


async def test_the_contract_names_every_route(client: httpx.AsyncClient, app: Any) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for template, methods in paths.items():
        path = template.replace("{session_id}", "x").replace("{user_id}", "x")
        for method in set(methods) - {"parameters"}:
            answer = await client.request(method.upper(), path)
            assert "urn:session-ops:problem:not-found" not in answer.text
