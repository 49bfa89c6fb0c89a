"""A failure before the request has left says that nothing happened; one behind it says nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.ledger.answers import Outcome, ask
from tests.ledger.wire import Host
from tests.servers import free_port

PROBLEM = b'{"type": "urn:session-ops:problem:%s"}'


def answer(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize(
    ("sent", "outcome", "reason"),
    [
        (answer(200, b"{}"), Outcome.DONE, ""),
        (answer(200, b"{"), Outcome.UNKNOWN, "not JSON"),
        (answer(404, PROBLEM % b"session-not-found"), Outcome.ABSENT, ""),
        (answer(404, PROBLEM % b"not-found"), Outcome.NOTHING, "HTTP 404 not-found"),
        (answer(503, PROBLEM % b"store-unavailable"), Outcome.NOTHING, "store-unavailable"),
        (answer(503, PROBLEM % b"outcome-unknown"), Outcome.UNKNOWN, "outcome-unknown"),
        (answer(503, b"a load balancer"), Outcome.UNKNOWN, "HTTP 503"),
        (answer(500, PROBLEM % b"internal-error"), Outcome.UNKNOWN, "HTTP 500 internal-error"),
        (answer(401, PROBLEM % b"unauthorized"), Outcome.NOTHING, "HTTP 401 unauthorized"),
        (b"", Outcome.UNKNOWN, "connection broken"),
        (answer(200, b"{}")[:-1], Outcome.UNKNOWN, "connection broken"),
        (b"HTTP/1.1 200 X\r\n\r\n{}", Outcome.UNKNOWN, "connection broken"),
    ],
)
async def test_an_answer_says_what_became_of_the_request(sent: bytes, outcome: Outcome, reason: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host = Host(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token")
        found = await ask(host, "GET", "/v1/sessions/x")
    assert (found.outcome, found.reason) == (outcome, reason)


async def test_a_refused_connection_says_that_nothing_happened() -> None:
    found = await ask(Host(f"http://127.0.0.1:{free_port()}", "token"), "DELETE", "/v1/sessions/x")
    assert (found.outcome, found.reason) == (Outcome.NOTHING, "connection refused")


async def test_a_host_that_accepts_and_says_nothing_leaves_the_outcome_unknown() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host = Host(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token", timeout=0.1)
        found = await ask(host, "GET", "/v1/sessions/x")
    assert (found.outcome, found.reason) == (Outcome.UNKNOWN, "timeout")


async def test_a_connection_that_the_server_closed_while_idle_is_not_used_again() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(204))
        await asyncio.sleep(0.02)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host = Host(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token")
        for _ in range(3):
            assert (await ask(host, "DELETE", "/v1/sessions/x")).outcome is Outcome.DONE
            await asyncio.sleep(0.05)
