"""The application over a repository in memory, called without a network."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from session_ops.api.app import Api, make_app
from session_ops.api.tokens import Grant, Scope, Tokens
from session_ops.readiness import Readiness
from session_ops.readiness_rules import RedisAlone
from session_ops.serve.protocol import LimitedProtocol
from session_ops.serve.short import short_protocol
from session_ops.service import SessionService
from session_ops.settings import Flag
from tests.unit.api.served import Served
from tests.unit.fake_repository import FakeRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY_LIMIT = 4096


def grant(token: str, *scopes: Scope) -> Grant:
    return Grant(token, list(scopes), hashlib.sha256(token.encode()).hexdigest())


@pytest.fixture
def repository() -> FakeRepository:
    return FakeRepository()


@pytest.fixture
async def app(repository: FakeRepository) -> AsyncIterator[Any]:
    grants = [
        grant("all", "read", "write", "admin"),
        grant("reader", "read"),
        grant("writer", "write"),
        grant("next", "read"),
    ]
    async with SessionService(repository) as service:
        readiness = Readiness(
            service,
            repository.describe,
            lambda: Flag(use_redis_sessions=True, session_redis_percent=10),
            RedisAlone("redis1:6379"),
            release="1.0-abc",
        )
        yield make_app(service, Tokens(grants), readiness, body_limit=BODY_LIMIT)


@pytest.fixture
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://service", headers={"authorization": "Bearer all"}
    ) as client:
        yield client


@pytest.fixture
async def session(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.post("/v1/sessions", json={"user_id": "alice", "agent_id": "bot", "data": {"a": 1, "b": 2}})
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def short(app: Api) -> AsyncIterator[Served]:
    served = Served(app, short_protocol(16_384, app.plain))
    await served.started.wait()
    yield served
    await served.stop()


@pytest.fixture
async def long(app: Api) -> AsyncIterator[Served]:
    served = Served(app, LimitedProtocol)
    await served.started.wait()
    yield served
    await served.stop()
