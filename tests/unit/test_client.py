"""The client over the application in memory, and over a service that fails in every way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from session_ops import client as client_module
from session_ops.client import SessionClient
from session_ops.errors import (
    InvalidSessionError,
    OutcomeUnknownError,
    OverloadedError,
    RevisionConflictError,
    ServiceRefusedError,
    SessionNotFoundError,
    SessionTooLargeError,
    StoreUnavailableError,
)
from tests.unit.api.conftest import app, repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from session_ops.api.app import Api
    from tests.unit.fake_repository import FakeRepository

__all__ = ["app", "repository"]  # fixtures


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module.random, "uniform", lambda _low, _high: 0)  # type: ignore[attr-defined]


@pytest.fixture
async def client(app: Api) -> AsyncIterator[SessionClient]:
    async with SessionClient("http://s", "all", transport=httpx.ASGITransport(app)) as client:
        yield client


class Failing(httpx.AsyncBaseTransport):
    """Fails as told, then hands on."""

    def __init__(self, app: Api, *failures: Callable[[], httpx.Response]) -> None:
        self._following = httpx.ASGITransport(app)
        self.failures = list(failures)
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.failures:
            return self.failures.pop(0)()
        return await self._following.handle_async_request(request)


def breaks() -> httpx.Response:
    raise httpx.ReadError("broken")


def refuses() -> httpx.Response:
    raise httpx.ConnectError("refused")


def gateway() -> httpx.Response:
    return httpx.Response(502, text="<html>bad gateway</html>")


async def test_a_session_lives_its_life(client: SessionClient) -> None:
    session = await client.create("alice", agent_id="bot", data={"a": 1}, ttl=60)
    assert await client.get(session.id) == session
    changed = await client.update(session.id, changes={"b": 2}, remove=["a"])
    assert changed.data == {"b": 2}
    assert (await client.replace(session.id, data={"c": 3}, expected_revision=changed.revision)).data == {"c": 3}
    assert (await client.touch(session.id)).expires_at >= session.expires_at
    assert await client.count_active() == 1
    assert await client.delete(session.id)
    assert not await client.delete(session.id)
    assert await client.get(session.id) is None
    assert (await client.statistics()).deleted == 1


async def test_a_list_is_walked_page_by_page(client: SessionClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {(await client.create("alice")).id for _ in range(120)}
    await client.create("bob")
    assert {session.id async for session in client.iterate(user_id="alice")} == made
    assert await client.revoke_user("alice") == 120


async def test_ids_and_users_may_hold_anything_that_a_path_may_not(client: SessionClient) -> None:
    for user in ("a/b?c#d", "%2F", "ü/..", "/"):
        await client.create(user)
        assert await client.revoke_user(user) == 1
    assert await client.get("a/b") is None


async def test_each_problem_is_the_error_that_a_repository_would_raise(
    client: SessionClient, repository: FakeRepository
) -> None:
    session = await client.create("alice")
    with pytest.raises(SessionNotFoundError):
        await client.touch("unknown")
    with pytest.raises(RevisionConflictError) as conflict:
        await client.update(session.id, changes={}, expected_revision="0" * 16)
    assert (conflict.value.session_id, conflict.value.revision) == (session.id, session.revision)
    with pytest.raises(InvalidSessionError):
        await client.create("")
    with pytest.raises(SessionTooLargeError):
        await client.create("alice", data={"a": "x" * 5000})
    repository.fails = RuntimeError()
    with pytest.raises(ServiceRefusedError):
        await client.count_active()


@pytest.mark.parametrize("token", ["wrong", "reader"])
async def test_a_token_that_may_not_is_refused_at_once(app: Api, token: str) -> None:
    transport = Failing(app)
    async with SessionClient("http://s", token, transport=transport) as client:
        with pytest.raises(ServiceRefusedError):
            await client.create("alice")
    assert transport.requests == 1


@pytest.mark.parametrize("failure", [refuses, gateway])
async def test_what_changed_nothing_is_repeated(app: Api, failure: Any) -> None:
    transport = Failing(app, failure, failure)
    async with SessionClient("http://s", "all", transport=transport) as client:
        await client.create("alice")
        assert await client.count_active() == 1
    assert transport.requests == 4


async def test_a_create_whose_outcome_is_unknown_is_not_repeated(app: Api) -> None:
    transport = Failing(app, breaks)
    async with SessionClient("http://s", "all", transport=transport) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.create("alice")
    assert transport.requests == 1


async def test_a_guarded_change_whose_outcome_is_unknown_is_not_repeated(app: Api, client: SessionClient) -> None:
    session = await client.create("alice")
    for revision, requests in ((session.revision, 1), (None, 2)):
        transport = Failing(app, breaks)
        async with SessionClient("http://s", "all", transport=transport) as failing:
            try:
                await failing.update(session.id, changes={"a": 1}, expected_revision=revision)
            except OutcomeUnknownError:
                assert revision is not None
        assert transport.requests == requests


async def test_a_service_that_stays_down_is_reported_within_the_deadline(app: Api, repository: FakeRepository) -> None:
    repository.fails = OverloadedError("redis", "queue full")
    async with SessionClient("http://s", "all", deadline=0.05, transport=httpx.ASGITransport(app)) as client:
        async with asyncio.timeout(2):
            with pytest.raises(StoreUnavailableError):
                await client.get("a")
