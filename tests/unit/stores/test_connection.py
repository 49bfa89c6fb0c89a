"""The multiplexed connection against a scripted server: nothing hangs, nothing is answered twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from session_ops.errors import OutcomeUnknownError, OverloadedError, StoreUnavailableError
from session_ops.stores.connection import Connection
from tests.fake_redis import OK, FakeRedis, Peer
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def make(port: int, **settings: Any) -> Connection:
        made.append(Connection("127.0.0.1", port, **{"deadline": 0.3, **settings}))
        return made[-1]

    yield make
    await asyncio.gather(*[connection.close() for connection in made])


async def together(*calls: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def echo(peer: Peer, command: list[bytes]) -> None:
    peer.reply(b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1]))


async def test_what_is_asked_for_in_one_tick_leaves_in_one_write(connect: Callable[..., Connection]) -> None:
    async with FakeRedis(echo) as server:
        connection = connect(server.port)
        await connection.call("ECHO", "first")

        answers = await asyncio.gather(*[connection.call("ECHO", number) for number in range(100)])

        assert answers == [b"%d" % number for number in range(100)]
        assert [len(burst) for burst in server.peers[0].bursts] == [1, 1, 100]
        assert connection.in_flight == 0


async def test_replies_in_pieces_reach_their_callers(connect: Callable[..., Connection]) -> None:
    async def in_pieces(peer: Peer, command: list[bytes]) -> None:
        for byte in b"*2\r\n$%d\r\n%b\r\n:7\r\n" % (len(command[-1]), command[-1]):
            peer.reply(bytes([byte]))
            await asyncio.sleep(0)

    async with FakeRedis(in_pieces) as server:
        connection = connect(server.port)

        assert await together(connection.call("A", "one"), connection.call("B", "two")) == [
            [b"one", 7],
            [b"two", 7],
        ]


async def test_a_broken_link_leaves_a_sent_change_unknown_and_a_read_undone(connect: Callable[..., Connection]) -> None:
    async def hang_up(peer: Peer, command: list[bytes]) -> None:
        if command[0] == b"LAST":
            peer.hang_up()

    async with FakeRedis(hang_up) as server:
        connection = connect(server.port)

        change, read, _ = await together(
            connection.call("SET", change=True), connection.call("GET"), connection.call("LAST")
        )

        assert type(change) is OutcomeUnknownError
        assert type(read) is StoreUnavailableError


async def test_what_was_never_sent_has_not_happened(connect: Callable[..., Connection]) -> None:
    connection = connect(free_port())

    with pytest.raises(StoreUnavailableError, match="unreachable") as refused:
        await connection.call("SET", change=True)

    assert type(refused.value) is StoreUnavailableError


@pytest.mark.alone
async def test_while_redis_is_down_calls_fail_at_once_after_a_first_deadline(
    connect: Callable[..., Connection],
) -> None:
    connection = connect(free_port())
    with pytest.raises(StoreUnavailableError):
        await connection.call("GET")
    await asyncio.sleep(0.1)

    started = time.monotonic()
    for _ in range(10):
        with pytest.raises(StoreUnavailableError, match="unreachable"):
            await connection.call("GET")

    assert time.monotonic() - started < 0.1


async def test_calls_wait_for_a_redis_that_comes_up_within_the_deadline(connect: Callable[..., Connection]) -> None:
    server = FakeRedis(echo)
    server.port = free_port()
    connection = connect(server.port, deadline=1.0)
    waiting = asyncio.gather(*[connection.call("ECHO", "x", change=True) for _ in range(3)])
    await asyncio.sleep(0.1)

    async with server:
        assert await waiting == [b"x", b"x", b"x"]


async def test_a_request_is_sent_once_however_often_the_link_breaks(connect: Callable[..., Connection]) -> None:
    seen: list[bytes] = []

    async def flaky(peer: Peer, command: list[bytes]) -> None:
        seen.append(command[-1])
        if len(seen) % 3 == 0:
            peer.hang_up()
        else:
            await echo(peer, command)

    async with FakeRedis(flaky) as server:
        connection = connect(server.port)
        outcomes: dict[bytes, Any] = {}
        for number in range(60):
            name = b"%d" % number
            [outcomes[name]] = await asyncio.gather(connection.call("SET", name, change=True), return_exceptions=True)

    assert sorted(seen, key=int) == [b"%d" % number for number in range(60)]
    for name, outcome in outcomes.items():
        assert outcome == name or type(outcome) is OutcomeUnknownError
    assert sum(isinstance(outcome, bytes) for outcome in outcomes.values()) == 40


@pytest.mark.alone
async def test_a_silent_server_fails_the_call_within_its_deadline_and_is_left(
    connect: Callable[..., Connection],
) -> None:
    async def silent(peer: Peer, command: list[bytes]) -> None:
        if peer.number > 0:
            await echo(peer, command)

    async with FakeRedis(silent) as server:
        connection = connect(server.port, deadline=0.2)
        started = time.monotonic()

        change, read = await together(connection.call("SET", change=True), connection.call("GET"))

        assert 0.15 < time.monotonic() - started < 0.4
        assert type(change) is OutcomeUnknownError
        assert type(read) is StoreUnavailableError
        await asyncio.sleep(0.05)
        assert await connection.call("ECHO", "again") == b"again"
        assert len(server.peers) == 2


async def test_a_late_reply_goes_to_nobody_and_shifts_no_other(connect: Callable[..., Connection]) -> None:
    async def late(peer: Peer, command: list[bytes]) -> None:
        if command[0] == b"SLOW":
            await asyncio.sleep(0.25)
        await echo(peer, command)

    async with FakeRedis(late) as server:
        connection = connect(server.port, deadline=0.2)

        async def feed() -> list[Any]:
            calls = [connection.call("ECHO", number) for number in range(10)]
            return await asyncio.gather(*calls, return_exceptions=True)

        before = asyncio.gather(*[connection.call("ECHO", n) for n in range(3)])
        slow = asyncio.gather(connection.call("SLOW", "slow"), return_exceptions=True)
        assert await before == [b"0", b"1", b"2"]
        await asyncio.sleep(0.15)
        after = await feed()

        assert isinstance((await slow)[0], StoreUnavailableError)
        assert after == [b"%d" % number for number in range(10)] or all(
            isinstance(answer, StoreUnavailableError) for answer in after
        )
        assert await connection.call("ECHO", "last") == b"last"


async def test_a_caller_that_gives_up_takes_no_other_callers_reply(connect: Callable[..., Connection]) -> None:
    async with FakeRedis(echo) as server:
        connection = connect(server.port)
        abandoned = asyncio.create_task(connection.call("ECHO", "abandoned"))
        kept = asyncio.create_task(connection.call("ECHO", "kept"))
        await asyncio.sleep(0)
        abandoned.cancel()

        assert await kept == b"kept"
        assert await connection.call("ECHO", "next") == b"next"
        assert connection.in_flight == 0


async def test_a_full_queue_is_refused_and_drains(connect: Callable[..., Connection]) -> None:
    released = asyncio.Event()

    async def wait(peer: Peer, command: list[bytes]) -> None:
        await released.wait()
        await echo(peer, command)

    async with FakeRedis(wait) as server:
        connection = connect(server.port, queue_limit=5, deadline=1.0)
        calls = [asyncio.create_task(connection.call("ECHO", number)) for number in range(5)]
        await asyncio.sleep(0.02)

        with pytest.raises(OverloadedError):
            await connection.call("ECHO", "too many")
        released.set()

        assert await asyncio.gather(*calls) == [b"0", b"1", b"2", b"3", b"4"]
        assert await connection.call("ECHO", "room again") == b"room again"


async def test_a_wrong_password_is_named_and_never_shown(connect: Callable[..., Connection]) -> None:
    async def refuse(peer: Peer, command: list[bytes]) -> None:
        assert command[0] == b"AUTH"
        peer.reply(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")

    async with FakeRedis(refuse) as server:
        connection = connect(server.port, username="u", password="a secret")

        with pytest.raises(StoreUnavailableError, match="wrong password") as refused:
            await connection.call("GET")

        assert "a secret" not in repr(connection) + repr(refused.value)


async def test_the_greeting_logs_in_names_and_selects(connect: Callable[..., Connection]) -> None:
    greeting: list[list[bytes]] = []

    async def note(peer: Peer, command: list[bytes]) -> None:
        greeting.append(command)
        peer.reply(OK)

    async with FakeRedis(note) as server:
        connection = connect(server.port, db=3, username="u", password="p", name="me")
        await connection.call("PING")

        assert server.peers[0].bursts[0] == [[b"AUTH", b"u", b"p"], [b"CLIENT", b"SETNAME", b"me"], [b"SELECT", b"3"]]
    assert greeting[-1] == [b"PING"]


async def test_reconnects_are_few_and_not_in_step(connect: Callable[..., Connection]) -> None:
    async def hang_up(peer: Peer, command: list[bytes]) -> None:
        peer.hang_up()

    async with FakeRedis(hang_up) as server:
        connections = [connect(server.port, password="p") for _ in range(5)]
        await asyncio.gather(*[connection.call("GET") for connection in connections], return_exceptions=True)
        await asyncio.sleep(0.4)

        # 0.02 s doubled each time, at random from half of it up: at most 7 attempts in 0.7 s
        assert 5 * 3 <= len(server.peers) <= 5 * 8


async def test_group_commit_waits_once_for_all_changes_of_a_tick(connect: Callable[..., Connection]) -> None:
    commands: list[bytes] = []
    reached = 1

    async def answer(peer: Peer, command: list[bytes]) -> None:
        commands.append(command[0])
        peer.reply(b":%d\r\n" % (reached if command[0] == b"WAIT" else 5))

    async with FakeRedis(answer) as server:
        connection = connect(server.port, wait_replicas=1)

        answers = await together(
            connection.call("SET", change=True), connection.call("GET"), connection.call("DEL", change=True)
        )
        assert answers == [5, 5, 5]
        assert commands == [b"GET", b"SET", b"DEL", b"WAIT"]

        reached = 0
        change, read = await together(connection.call("SET", change=True), connection.call("GET"))
        assert type(change) is OutcomeUnknownError
        assert change.reason == "not replicated"
        assert read == 5


async def test_a_link_that_breaks_before_the_replicas_answer_leaves_changes_unknown(
    connect: Callable[..., Connection],
) -> None:
    async def answer(peer: Peer, command: list[bytes]) -> None:
        if command[0] == b"WAIT":
            peer.hang_up()
        else:
            peer.reply(OK)

    async with FakeRedis(answer) as server:
        connection = connect(server.port, wait_replicas=1)

        with pytest.raises(OutcomeUnknownError):
            await connection.call("SET", change=True)
        assert connection.in_flight == 0


async def test_closing_answers_what_is_under_way_and_refuses_the_rest(connect: Callable[..., Connection]) -> None:
    arrived = asyncio.Event()

    async def slow(peer: Peer, command: list[bytes]) -> None:
        arrived.set()
        await asyncio.sleep(0.05)
        await echo(peer, command)

    async with FakeRedis(slow) as server:
        connection = connect(server.port)
        under_way = asyncio.create_task(connection.call("ECHO", "x"))
        await arrived.wait()

        await connection.close()

        assert await under_way == b"x"
        with pytest.raises(StoreUnavailableError, match="closed"):
            await connection.call("ECHO")
        await connection.close()


async def test_closing_does_not_wait_for_a_server_that_says_nothing(connect: Callable[..., Connection]) -> None:
    async def silent(peer: Peer, command: list[bytes]) -> None:
        del peer, command

    async with FakeRedis(silent) as server:
        connection = connect(server.port)
        under_way = asyncio.gather(connection.call("SET", change=True), return_exceptions=True)
        await asyncio.sleep(0.05)

        await connection.close()

        assert isinstance((await under_way)[0], OutcomeUnknownError)


async def test_a_reply_that_nobody_asked_for_breaks_the_link(connect: Callable[..., Connection]) -> None:
    async def twice(peer: Peer, command: list[bytes]) -> None:
        await echo(peer, command)
        if peer.number == 0:
            await echo(peer, command)

    async with FakeRedis(twice) as server:
        connection = connect(server.port)
        with contextlib.suppress(StoreUnavailableError):
            await connection.call("ECHO", "one")
        await asyncio.sleep(0.05)

        assert await connection.call("ECHO", "two") == b"two"
        assert len(server.peers) == 2
