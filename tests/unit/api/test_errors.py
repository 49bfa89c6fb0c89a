"""Every error is a problem detail with its own status, and says nothing that it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from session_ops.errors import OutcomeUnknownError, OverloadedError, StoreUnavailableError
from tests.unit.api.conftest import BODY_LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.fake_repository import FakeRepository

ANY_ID = "/v1/sessions/abc"
BODY = {"json": {"user_id": "u"}}


def problem(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "request_id"}
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, body["type"].rpartition(":")[2]


def raw(content: bytes, media_type: str | None = "application/json") -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": media_type} if media_type else {}}


@pytest.mark.parametrize(
    ("method", "path", "request_parts", "status", "kind"),
    [
        ("GET", "/nowhere", {}, 404, "not-found"),
        ("GET", "/v1/sessions/a/b/c", {}, 404, "not-found"),
        ("GET", ANY_ID, {}, 404, "session-not-found"),
        ("GET", "/v1/sessions/%00", {}, 404, "session-not-found"),
        ("PUT", "/v1/sessions", BODY, 405, "method-not-allowed"),
        ("POST", "/healthz", {}, 405, "method-not-allowed"),
        ("BREW", "/v1/sessions", {}, 400, "bad-request"),
        ("POST", "/v1/sessions", raw(b"{"), 400, "bad-request"),
        ("POST", "/v1/sessions", raw(b""), 400, "bad-request"),
        ("POST", "/v1/sessions", raw(b'{"user_id": "\xff"}'), 400, "bad-request"),
        ("POST", "/v1/sessions", raw(b'{"user_id": "u", "data": {"a": NaN}}'), 400, "bad-request"),
        ("POST", "/v1/sessions", raw(b'{"user_id": "u", "data": {"a": ' + b"[" * 3000), 400, "bad-request"),
        ("POST", "/v1/sessions", {"json": {}}, 400, "bad-request"),
        ("POST", "/v1/sessions", {"json": {"user_id": 1}}, 400, "bad-request"),
        ("POST", "/v1/sessions", {"json": {"user_id": "u", "id": "mine"}}, 400, "bad-request"),
        ("POST", "/v1/sessions", {"json": {"user_id": "u", "ttl": "60"}}, 400, "bad-request"),
        ("POST", "/v1/sessions", {"json": {"user_id": "u", "ttl": 60.5}}, 400, "bad-request"),
        ("POST", "/v1/sessions", {"json": {"user_id": "u", "ttl": 1e300}}, 422, "invalid-session"),
        ("PATCH", ANY_ID, {"json": {"data": []}}, 400, "bad-request"),
        ("GET", "/v1/sessions?user=u", {}, 400, "bad-request"),
        ("GET", "/v1/sessions?limit=1&limit=2", {}, 400, "bad-request"),
        ("GET", "/v1/sessions?limit=0", {}, 400, "bad-request"),
        ("GET", "/v1/sessions?limit=100000000000", {}, 400, "bad-request"),
        ("GET", "/v1/sessions?limit=", {}, 400, "bad-request"),
        ("GET", "/v1/sessions?order=random", {}, 400, "bad-request"),
        ("GET", "/v1/sessions/count?x=1", {}, 400, "bad-request"),
        ("GET", "/v1/sessions?cursor=mine", {}, 422, "invalid-session"),
        ("GET", "/v1/sessions?user_id=", {}, 422, "invalid-session"),
        ("POST", "/v1/sessions", {"json": {"user_id": ""}}, 422, "invalid-session"),
        ("POST", "/v1/sessions", {"json": {"user_id": "u", "ttl": 0}}, 422, "invalid-session"),
        ("POST", "/v1/sessions", {"json": {"user_id": "u", "data": {"a": "\0"}}}, 422, "invalid-session"),
        ("POST", "/v1/sessions", raw(b"{}", None), 415, "unsupported-media-type"),
        ("POST", "/v1/sessions", raw(b"{}", "text/plain"), 415, "unsupported-media-type"),
        ("POST", "/v1/sessions", raw(b" " * (BODY_LIMIT + 1)), 413, "too-large"),
    ],
)
async def test_each_mistake_has_its_status(
    client: httpx.AsyncClient, *, method: str, path: str, request_parts: dict[str, Any], status: int, kind: str
) -> None:
    assert problem(await client.request(method, path, **request_parts)) == (status, kind)


async def test_a_body_without_a_length_is_limited_too(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(BODY_LIMIT // 1024 + 1):
            yield b" " * 1024

    answer = await client.post("/v1/sessions", content=chunks(), headers={"content-type": "application/json"})
    assert problem(answer) == (413, "too-large")


async def test_a_body_that_is_announced_too_long_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"{"  # the framework takes the first piece by itself
        raise AssertionError("it was read")

    headers = {"content-type": "application/json", "content-length": str(BODY_LIMIT + 1)}
    answer = await client.post("/v1/sessions", content=endless(), headers=headers)
    assert problem(answer) == (413, "too-large")


async def test_a_session_beyond_its_size_is_too_large(client: httpx.AsyncClient, repository: FakeRepository) -> None:
    repository.limits = msgspec.structs.replace(repository.limits, size=100)
    answer = await client.post("/v1/sessions", json={"user_id": "u", "data": {"a": "x" * 200}})
    assert problem(answer) == (413, "too-large")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreUnavailableError("redis", "unreachable"), "store-unavailable"),
        (OverloadedError("redis", "queue full"), "store-unavailable"),
        (OutcomeUnknownError("redis", "connection lost"), "outcome-unknown"),
    ],
)
async def test_a_store_that_cannot_serve_is_503_with_retry_after(
    client: httpx.AsyncClient, repository: FakeRepository, error: Exception, kind: str
) -> None:
    repository.fails = error
    for method, path, parts in (("POST", "/v1/sessions", BODY), ("GET", ANY_ID, {}), ("GET", "/v1/statistics", {})):
        answer = await client.request(method, path, **parts)  # type: ignore[arg-type]
        assert problem(answer) == (503, kind)
        assert answer.headers["retry-after"] == "1"


async def test_a_defect_is_500_and_tells_nothing(client: httpx.AsyncClient, repository: FakeRepository) -> None:
    repository.fails = RuntimeError("hunter2")
    answer = await client.get(ANY_ID)
    assert problem(answer) == (500, "internal-error")
    assert "hunter2" not in answer.text


async def test_405_names_the_methods_that_exist(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/v1/sessions")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("given", ["ticket-17", "01ARZ3NDEKTSV4RRFFQ69G5FAV"])
async def test_a_decent_request_id_is_kept(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/healthz", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, '"><script>'])
async def test_any_other_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    ids = [(await client.get("/healthz", headers={"x-request-id": given})).headers["x-request-id"] for _ in range(2)]
    assert given not in ids
    assert ids[0] != ids[1]
