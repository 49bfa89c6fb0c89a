"""The short way on a connection: order, pieces, keeping alive, closing, and stopping are as on any other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from session_ops.api.app import Api
from session_ops.serve.short import short_protocol
from tests.unit.api.served import CHANGE, JSON, TOKEN, Served, request

if TYPE_CHECKING:
    from tests.unit.fake_repository import FakeRepository


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


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", {"connection": "close"}),
        ("1.0", {"connection": "close"}),
        ("1.0", {"connection": "keep-alive"}),
        ("1.0", {}),
    ],
)
async def test_a_connection_that_is_to_be_closed_is_closed(
    short: Served, session: dict[str, Any], version: str, headers: dict[str, str]
) -> None:
    asked = request("GET", f"/v1/sessions/{session['id']}", {**TOKEN, **headers})
    text = await short.say(asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
    assert text.startswith(b"HTTP/1.1 200")
    assert b"connection: close\r\n" in text


async def test_a_caller_that_asks_to_keep_the_connection_takes_the_short_way(
    short: Served, session: dict[str, Any]
) -> None:
    asked = request("GET", f"/v1/sessions/{session['id']}", {**TOKEN, "connection": "keep-alive"})
    reader, writer = await short.connect()
    for _ in range(2):
        writer.write(asked)
        await reader.readuntil(b'"}')
    writer.close()
    assert short.counting.requests == 0


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


async def test_an_idle_connection_is_closed_and_one_in_use_is_not(app: Api, session: dict[str, Any]) -> None:
    served = Served(app, short_protocol(16_384, app.plain), keep_alive=1)
    await served.started.wait()
    try:
        asked = request("GET", f"/v1/sessions/{session['id']}", TOKEN)
        reader, writer = await served.connect()
        for _ in range(4):  # 1.6 s, longer than an idle one may live
            writer.write(asked)
            assert (await reader.readuntil(b'"}')).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.4)
            assert not reader.at_eof()
        async with asyncio.timeout(5):
            await reader.read()
    finally:
        await served.stop()


@pytest.mark.parametrize("path", ["/v1/sessions/absent", "/v1/sessions/count"])
async def test_a_slow_request_is_not_idle(
    app: Api, repository: FakeRepository, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def slow(*_: object) -> None:
        await asyncio.sleep(0.8)

    served = Served(app, short_protocol(16_384, app.plain), keep_alive=0.3)
    await served.started.wait()
    try:
        reader, writer = await served.connect()
        writer.write(request("GET", "/healthz", {}))
        await reader.readuntil(b"}")
        monkeypatch.setattr(repository, "get", slow)
        monkeypatch.setattr(repository, "count_active", slow)
        writer.write(request("GET", path, TOKEN))
        async with asyncio.timeout(3):
            text = await reader.read()
        assert text.startswith(b"HTTP/1.1 ")
        assert b"\r\n\r\n" in text
    finally:
        await served.stop()
