"""The connection fails at every await of its making and of its end: nothing hangs, is lost or is sent twice."""

from __future__ import annotations

import asyncio
import socket
import ssl
import types
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import OutcomeUnknownError, StoreUnavailableError
from session_ops.stores.connection import Connection
from tests.fake_redis import FakeRedis, Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

DEADLINE = 0.5
FAILURES = [ConnectionResetError(), TimeoutError(), OSError(101, "network"), socket.gaierror(), ssl.SSLError()]


class Awaits:
    """Runs a coroutine and counts its awaits; at the one numbered `at` it fails in place of waiting."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Any]], at: int, failure: BaseException) -> None:
        self._make, self._at, self._failure = make, at, failure
        self.count = 0
        self.failed = False

    @types.coroutine
    def __call__(self) -> Generator[Any, Any, Any]:
        coroutine, value, thrown = self._make(), None, None
        while True:
            try:
                future = coroutine.send(value) if thrown is None else coroutine.throw(thrown)
            except StopIteration as end:
                return end.value
            self.count += 1
            value = thrown = None
            if self.count == self._at:
                self.failed = True
                thrown = self._failure
                if future is not None:
                    future._asyncio_future_blocking = False
                continue
            try:
                value = yield future
            except (OSError, StoreUnavailableError, asyncio.CancelledError) as error:
                thrown = error


async def _echo(peer: Peer, command: list[bytes]) -> None:
    peer.reply(b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1]))


def _connection(port: int, **settings: Any) -> Connection:
    return Connection(
        "127.0.0.1", port, username="ann", password="secret", deadline=DEADLINE, connect_timeout=0.5, **settings
    )


async def _answer(connection: Connection) -> Any:
    """The answer of the first call that is not refused."""
    while True:
        try:
            return await connection.call("ECHO", "again")
        except StoreUnavailableError:
            await asyncio.sleep(0.01)


async def _awaits_of_a_link() -> int:
    async with FakeRedis(_echo) as server:
        connection = _connection(server.port)
        awaits = Awaits(connection._connect, 0, OSError())
        connection._connect = awaits  # type: ignore[method-assign]
        await connection.call("ECHO", "x")
        await connection.close()
    return awaits.count


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_a_link_that_fails_at_any_await_of_its_making_is_made_again(failure: OSError) -> None:
    seen: list[bytes] = []

    async def noting(peer: Peer, command: list[bytes]) -> None:
        if command[0] == b"ECHO":
            seen.append(command[-1])
        await _echo(peer, command)

    length = await _awaits_of_a_link()
    assert length >= 2  # to connect, and to be greeted
    for at in range(1, length + 1):
        seen.clear()
        async with FakeRedis(noting) as server:
            connection = _connection(server.port)
            awaits = Awaits(connection._connect, at, failure)
            connection._connect = awaits  # type: ignore[method-assign]
            async with asyncio.timeout(DEADLINE):
                answers = await asyncio.gather(
                    *[connection.call("ECHO", str(number), change=number % 2 == 0) for number in range(4)]
                )
            assert awaits.failed
            assert answers == [b"0", b"1", b"2", b"3"]
            assert seen == answers, "sent twice"
            assert connection.in_flight == 0
            await connection.close()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_a_link_that_cannot_be_made_refuses_every_call_as_not_done(failure: OSError) -> None:
    for at in range(1, await _awaits_of_a_link() + 1):
        async with FakeRedis(_echo) as server:
            connection = _connection(server.port)
            connect = connection._connect

            async def always(connect: Any = connect, at: int = at) -> Any:
                return await Awaits(connect, at, failure)()

            connection._connect = always  # type: ignore[method-assign]
            async with asyncio.timeout(DEADLINE * 2):
                answers = await asyncio.gather(
                    *[connection.call("ECHO", "x", change=True) for _ in range(3)], return_exceptions=True
                )
            assert [type(answer) for answer in answers] == [StoreUnavailableError] * 3
            assert connection.in_flight == 0
            connection._connect = connect  # type: ignore[method-assign]
            async with asyncio.timeout(DEADLINE * 4):
                assert await _answer(connection) == b"again"
            await connection.close()


async def test_an_end_that_is_cancelled_at_any_await_can_be_made_again() -> None:
    async def silent(peer: Peer, command: list[bytes]) -> None:
        if command[0] != b"ECHO":
            await _echo(peer, command)

    length = 1
    at = 0
    while at < length:
        at += 1
        async with FakeRedis(silent) as server:
            connection = _connection(server.port)
            await connection.call("PING")
            waiting = asyncio.ensure_future(connection.call("ECHO", "x", change=True))
            await asyncio.sleep(0.02)
            cancelled = Awaits(connection.close, at, asyncio.CancelledError())
            with pytest.raises(asyncio.CancelledError):
                await cancelled()
            whole = Awaits(connection.close, 0, OSError())
            async with asyncio.timeout(DEADLINE * 2):
                await whole()
                with pytest.raises(OutcomeUnknownError):
                    await waiting
            length = max(length, whole.count)
            assert connection.in_flight == 0
            with pytest.raises(StoreUnavailableError, match="closed"):
                await connection.call("ECHO", "x")
