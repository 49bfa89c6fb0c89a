"""The short way of plain requests and the framework's: a caller cannot tell them apart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
import structlog

from session_ops.api.app import Api
from session_ops.api.middleware import DURATION
from session_ops.deferred import Deferred
from session_ops.errors import StoreUnavailableError
from session_ops.limits import encode_attributes
from tests.unit.api.served import CHANGE, JSON, TOKEN, Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.fake_repository import FakeRepository


def told(answer: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    """What an answer says, without what is new in every one."""
    assert "date" in answer.headers
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    if answer.status_code != 200 or "etag" not in headers:
        headers.pop("etag", None)
        return answer.status_code, answer.content, headers
    body = answer.json()
    assert headers.pop("etag") == f'"{body.pop("revision")}"'
    for name in ("id", "created_at", "updated_at", "expires_at"):
        body.pop(name)
    return answer.status_code, body, headers


class Ways:
    """A client on either way."""

    def __init__(self, short: httpx.AsyncClient, long: httpx.AsyncClient) -> None:
        self._clients = (short, long)

    async def ask(self, method: str, path: str, **given: Any) -> tuple[Any, Any]:
        """What both answer."""
        one, other = [told(await client.request(method, path, **given)) for client in self._clients]
        return one, other


@pytest.fixture
async def ways(short: Served, long: Served) -> AsyncIterator[Ways]:
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{short.port}") as one,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{long.port}") as other,
    ):
        yield Ways(one, other)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer all", "x-request-id": "r"},
        {"authorization": "Bearer reader", "x-request-id": "r"},
        {"authorization": "Bearer writer", "x-request-id": "r"},
        {"authorization": "Bearer wrong", "x-request-id": "r"},
        {"authorization": "Bearer all", "x-request-id": "r", "if-none-match": "*"},
        {"authorization": "Bearer all", "x-request-id": "r", "connection": "close"},
        {"x-request-id": "r"},
    ],
)
async def test_a_read_is_answered_the_same(ways: Ways, session: dict[str, Any], headers: dict[str, str]) -> None:
    for suffix in ("", "?x=1", "/", "/touch", "%20"):
        one, other = await ways.ask("GET", f"/v1/sessions/{session['id']}{suffix}", headers=headers)
        assert one == other


async def test_data_that_nobody_has_decoded_is_answered_the_same(
    ways: Ways, session: dict[str, Any], repository: FakeRepository
) -> None:
    path, headers = f"/v1/sessions/{session['id']}", {**TOKEN, "x-request-id": "r"}
    plain = repository.sessions[session["id"]]
    fields = encode_attributes(plain.data, None)[0]
    repository.sessions[plain.id] = msgspec.structs.replace(plain, data=Deferred([b"", b"", *fields]))
    one, other = await ways.ask("GET", path, headers=headers)
    assert one == other
    assert one[1]["data"] == plain.data != {}


async def test_data_that_is_no_json_is_a_defect_and_not_an_answer(
    ways: Ways, session: dict[str, Any], repository: FakeRepository
) -> None:
    path, headers = f"/v1/sessions/{session['id']}", {**TOKEN, "x-request-id": "r"}
    plain = repository.sessions[session["id"]]
    repository.sessions[plain.id] = msgspec.structs.replace(plain, data=Deferred([b"", b"", b"a", b'"\xff"']))
    with structlog.testing.capture_logs():
        one, other = await ways.ask("GET", path, headers=headers)
    assert one == other
    assert one[0] == 500


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_what_is_not_there_is_answered_the_same(ways: Ways, method: str) -> None:
    headers = {**TOKEN, **JSON, "x-request-id": "r"} if method == "PATCH" else {**TOKEN, "x-request-id": "r"}
    content = CHANGE if method == "PATCH" else None
    for last in ("unknown", "count", "", "a%2Fb", "..", "x" * 128, "x" * 129):
        one, other = await ways.ask(method, f"/v1/sessions/{last}", headers=headers, content=content)
        assert one == other


CHANGING: list[dict[str, str]] = [
    {},
    {"prefer": "return=minimal"},
    {"prefer": "respond-async, Return = Minimal"},
    {"prefer": "return=representation"},
    {"if-match": "*"},
    {"if-match": '"0123456789abcdef"'},
    {"if-match": 'W/"0123456789abcdef"'},
    {"if-match": "0123456789abcdef"},
    {"if-match": '"a", "b"', "prefer": "return=minimal"},
    {"content-type": "application/json; charset=utf-8"},
    {"content-type": "text/plain"},
    {"authorization": "Bearer reader"},
    {"authorization": "Bearer wrong"},
    {"if-none-match": "*"},
    {"expect": "100-continue"},
]

BODIES = [
    b'{"data":{"a":3,"b":null,"new":[1,{"x":null}]}}',
    b'{"data":{}}',
    b'{"data":{"a":"\\u0000"}}',
    b'{"data":{"a\\"":1}}',
    b'{"data":{"a":1e999}}',
    b'{"data":[]}',
    b'{"data":{"a":1},"more":1}',
    b'{"data":{"a":1}',
    b'{"data":{"a":"\xff"}}',
    b'{"data":' + b'{"a":' * 1_000 + b"1" + b"}" * 1_000 + b"}",
    b"",
    b"x" * 5_000,
]


async def test_a_change_is_answered_the_same(ways: Ways, session: dict[str, Any]) -> None:
    for headers in CHANGING:
        given = {**TOKEN, **JSON, "x-request-id": "r", **headers}
        one, other = await ways.ask("PATCH", f"/v1/sessions/{session['id']}", headers=given, content=CHANGE)
        assert one == other


async def test_any_body_of_a_change_is_answered_the_same(ways: Ways, session: dict[str, Any]) -> None:
    headers = {**TOKEN, **JSON, "x-request-id": "r"}
    for body in BODIES:
        one, other = await ways.ask("PATCH", f"/v1/sessions/{session['id']}", headers=headers, content=body)
        assert one == other


async def test_plain_requests_take_the_short_way_and_are_counted_once(
    short: Served, app: Api, session: dict[str, Any], repository: FakeRepository
) -> None:
    path = f"/v1/sessions/{session['id']}"
    before = dict(app.plain._service.metrics.sums())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{short.port}", headers=TOKEN) as client:
        assert (await client.get(path)).status_code == 200
        assert (await client.patch(path, content=CHANGE, headers=JSON)).json()["data"] == {"a": 2, "b": 2}
        minimal = {**JSON, "prefer": "return=minimal", "if-match": "*"}
        assert (await client.patch(path, content=b'{"data":{"b":null}}', headers=minimal)).status_code == 204
        assert (await client.get(path)).json()["data"] == {"a": 2}
    assert short.counting.requests == 0
    assert repository.calls.count("get") == 2
    after = app.plain._service.metrics.sums()
    for method, status, number in (("GET", "200", 2), ("PATCH", "200", 1), ("PATCH", "204", 1)):
        key = (DURATION, method, "/v1/sessions/{session_id}", status)
        assert sum(after[key][:-1]) - sum(before.get(key, [0])[:-1]) == number


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("error", [StoreUnavailableError("redis", "unreachable"), RuntimeError("defect")])
async def test_a_store_that_fails_is_asked_once(
    ways: Ways, session: dict[str, Any], repository: FakeRepository, error: Exception, *, method: str
) -> None:
    repository.fails = error
    calls = len(repository.calls)
    headers = {**TOKEN, **JSON, "x-request-id": "r"} if method == "PATCH" else {**TOKEN, "x-request-id": "r"}
    content = CHANGE if method == "PATCH" else None
    with structlog.testing.capture_logs():  # a traceback takes seconds to print
        one, other = await ways.ask(method, f"/v1/sessions/{session['id']}", headers=headers, content=content)
    assert one == other
    assert one[0] in (500, 503)
    assert len(repository.calls) == calls + 2  # once on either way


async def test_an_absent_session_is_asked_for_once(short: Served, repository: FakeRepository) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{short.port}", headers=TOKEN) as client:
        assert (await client.get("/v1/sessions/absent")).status_code == 404
    assert repository.calls.count("get") == 1


async def test_a_failure_is_measured_from_the_requests_head(
    short: Served, app: Api, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(_session_id: str) -> None:
        await asyncio.sleep(0.3)

    monkeypatch.setattr(repository, "get", slow)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{short.port}", headers=TOKEN) as client:
        assert (await client.get("/v1/sessions/absent")).status_code == 404
    assert app.plain._service.metrics.sums()[DURATION, "GET", "/v1/sessions/{session_id}", "404"][-1] >= 0.3
