"""The short way of plain requests and the framework's: a caller cannot tell them apart."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog
import uvicorn

from session_ops.api.app import Api
from session_ops.api.middleware import DURATION
from session_ops.errors import StoreUnavailableError
from session_ops.serve.protocol import LimitedProtocol
from session_ops.serve.short import short_protocol
from session_ops.serve.worker import _Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.unit.fake_repository import FakeRepository

JSON = {"content-type": "application/json"}
TOKEN = {"authorization": "Bearer all"}
CHANGE = b'{"data":{"a":2}}'


class Counting:
    """An application that counts what reaches it."""

    def __init__(self, app: Api) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        await self.app(scope, receive, send)


class Served:
    """The application behind a socket."""

    def __init__(self, app: Api, protocol: type[LimitedProtocol]) -> None:
        self.counting = Counting(app)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        started = asyncio.Event()
        config = uvicorn.Config(
            self.counting, http=protocol, ws="none", lifespan="off", log_config=None, server_header=False
        )
        self.server = _Server(config, started.set)
        self.task = asyncio.create_task(self.server.serve(sockets=[self._socket]))
        self.started = started

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task
        self._socket.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, *parts: bytes) -> bytes:
        """Send the parts one by one on a connection, close our side of it last; all that comes back."""
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            text = await reader.read()
        writer.close()
        return text


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


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"", *, length: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: s", *[f"{name}: {value}" for name, value in headers.items()]]
    if body and length:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


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


async def test_what_a_connection_was_allowed_ends_with_its_token(short: Served, session: dict[str, Any]) -> None:
    path = f"/v1/sessions/{session['id']}"
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{short.port}", limits=httpx.Limits(max_connections=1)
    ) as client:
        statuses = [
            (await client.get(path, headers={"authorization": f"Bearer {token}"})).status_code
            for token in ("all", "wrong", "all", "writer", "reader")
        ]
        statuses.append((await client.get(path)).status_code)
    assert statuses == [200, 401, 200, 403, 200, 401]


@pytest.mark.parametrize("name", ["authorization", "x-request-id", "if-match", "prefer"])
async def test_a_header_given_twice_goes_the_long_way(short: Served, session: dict[str, Any], name: str) -> None:
    head = request("PATCH", f"/v1/sessions/{session['id']}", {**TOKEN, **JSON, "connection": "close"}, CHANGE)
    twice = b"%b: *\r\n" % name.encode() * 2
    await short.say(head.replace(b"host: s\r\n", b"host: s\r\n" + twice))
    assert short.counting.requests == 1


async def test_pipelined_requests_are_answered_in_their_order(short: Served, session: dict[str, Any]) -> None:
    path = f"/v1/sessions/{session['id']}"
    ids = [{**TOKEN, "x-request-id": f"r{number}"} for number in range(6)]
    text = await short.say(
        request("GET", path, ids[0])
        + request("PATCH", path, {**ids[1], **JSON}, CHANGE)
        + request("GET", "/healthz", ids[2])
        + request("GET", path, ids[3])
        + request("GET", "/v1/sessions/absent", ids[4])
        + request("GET", path, {**ids[5], "connection": "close"})
    )
    found = [line.removeprefix(b"x-request-id: ") for line in text.split(b"\r\n") if line.startswith(b"x-request-id")]
    assert found == [b"r0", b"r1", b"r2", b"r3", b"r4", b"r5"]
    assert text.count(b"HTTP/1.1 200 OK") == 5
    assert text.count(b"HTTP/1.1 404") == 1


async def test_a_body_in_pieces_is_put_together(short: Served, session: dict[str, Any]) -> None:
    path = f"/v1/sessions/{session['id']}"
    whole = request("PATCH", path, {**TOKEN, **JSON}, b'{"data":{"a":"long"}}')
    last = request("GET", path, {**TOKEN, "connection": "close"})
    text = await short.say(*[whole[start : start + 40] for start in range(0, len(whole), 40)], last)
    assert text.count(b'"a":"long"') == 2


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_connection_that_is_to_be_closed_is_closed(
    short: Served, session: dict[str, Any], version: str
) -> None:
    asked = request("GET", f"/v1/sessions/{session['id']}", {**TOKEN, "connection": "close"})
    text = await short.say(asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    assert text.startswith(b"HTTP/1.1 200")
    assert b"connection: close\r\n" in text


async def test_a_server_that_stops_answers_what_is_under_way_and_closes(
    short: Served, session: dict[str, Any], repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    get = repository.get

    async def held(session_id: str) -> Any:
        reached.set()
        await go_on.wait()
        return await get(session_id)

    monkeypatch.setattr(repository, "get", held)
    answer = asyncio.create_task(short.say(request("GET", f"/v1/sessions/{session['id']}", TOKEN)))
    await reached.wait()
    stopping = asyncio.create_task(short.stop())
    await asyncio.sleep(0.3)
    go_on.set()
    text = await answer
    assert text.startswith(b"HTTP/1.1 200")
    assert b"connection: close\r\n" in text
    await stopping
    with contextlib.suppress(OSError):
        short._socket.close()


async def test_a_caller_that_goes_away_harms_nobody(
    short: Served,
    session: dict[str, Any],
    repository: FakeRepository,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    get = repository.get

    async def held(session_id: str) -> Any:
        reached.set()
        await go_on.wait()
        return await get(session_id)

    monkeypatch.setattr(repository, "get", held)
    path = f"/v1/sessions/{session['id']}"
    _, writer = await short.connect()
    writer.write(request("GET", path, TOKEN))
    await reached.wait()
    writer.transport.abort()
    await asyncio.sleep(0.05)
    go_on.set()
    text = await short.say(request("GET", path, {**TOKEN, "connection": "close"}))
    assert text.startswith(b"HTTP/1.1 200")
    assert not caplog.records
    assert not short.server.server_state.tasks


async def test_a_cycle_that_breaks_does_not_leave_its_caller_waiting(
    short: Served, app: Api, session: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_call: object) -> Any:
        return object()

    monkeypatch.setattr(app.plain, "answer", broken)
    assert await short.say(request("GET", f"/v1/sessions/{session['id']}", TOKEN)) == b""
