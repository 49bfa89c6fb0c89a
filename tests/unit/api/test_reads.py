"""The short way of a read and the framework's: a caller cannot tell them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from session_ops.api.reads import Reads
from session_ops.errors import StoreUnavailableError

if TYPE_CHECKING:
    from tests.unit.fake_repository import FakeRepository


async def both(app: Reads, path: str, headers: dict[str, str]) -> list[httpx.Response]:
    answers = []
    for way in (app, app._following):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(way), base_url="http://s") as client:
            answers.append(await client.get(path, headers=headers))
    return answers


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer all", "x-request-id": "r"},
        {"authorization": "Bearer reader", "x-request-id": "r"},
        {"authorization": "Bearer writer", "x-request-id": "r"},
        {"authorization": "Bearer wrong", "x-request-id": "r"},
        {"authorization": "Bearer all", "x-request-id": "r", "if-none-match": "*"},
        {"x-request-id": "r"},
    ],
)
@pytest.mark.parametrize("suffix", ["", "?x=1", "/", "/touch"])
async def test_both_ways_answer_the_same(
    app: Reads, session: dict[str, Any], headers: dict[str, str], suffix: str
) -> None:
    short, long = await both(app, f"/v1/sessions/{session['id']}{suffix}", headers)
    assert (short.status_code, short.content) == (long.status_code, long.content)
    assert dict(short.headers) == dict(long.headers)


@pytest.mark.parametrize("path", ["/v1/sessions/unknown", "/v1/sessions/count", "/v1/sessions/", "/v1/sessions/a%2Fb"])
async def test_both_ways_answer_the_same_where_there_is_no_session(app: Reads, path: str) -> None:
    short, long = await both(app, path, {"authorization": "Bearer all", "x-request-id": "r"})
    assert (short.status_code, short.content) == (long.status_code, long.content)


@pytest.mark.parametrize("error", [StoreUnavailableError("redis", "unreachable"), RuntimeError("defect")])
async def test_a_store_that_fails_is_asked_once(
    client: httpx.AsyncClient, session: dict[str, Any], repository: FakeRepository, error: Exception
) -> None:
    repository.fails = error
    before = repository.calls.count("get")
    answer = await client.get(f"/v1/sessions/{session['id']}")
    assert answer.status_code in (500, 503)
    assert repository.calls.count("get") == before + 1


async def test_an_absent_session_is_asked_for_once(client: httpx.AsyncClient, repository: FakeRepository) -> None:
    assert (await client.get("/v1/sessions/absent")).status_code == 404
    assert repository.calls.count("get") == 1
