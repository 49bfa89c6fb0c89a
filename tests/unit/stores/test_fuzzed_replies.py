"""Whatever a server sends, every call ends, and a healthy server is found again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_ops.errors import SessionOpsError
from session_ops.records import NewSession
from session_ops.stores.connection import Connection
from session_ops.stores.redis import RedisSessionRepository
from tests.fake_redis import FakeRedis, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

# Pieces of RESP in any order: whole replies, torn ones, wrong lengths, other types, and noise
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"+OK\r\n", b"+QUEUED\r\n", b":1\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$0\r\n\r\n", b"-ERR x\r\n",
                b"_\r\n", b"*2\r\n$5\r\nfinal\r\n:1795386706352\r\n", b"*3\r\n$5\r\nfinal\r\n:1\r\n:0\r\n",
                b"*2\r\n", b"$5\r\nfi", b"*2\r\n$0\r\n\r\n$3\r\nabc\r\n", b"-LOST x\r\n", b"-READONLY x\r\n",
                b"*1\r\n*1\r\n*1\r\n:1\r\n", b"$99999999999\r\n", b"%1\r\n+a\r\n:1\r\n", b">1\r\n+a\r\n",
                b"#t\r\n", b",1.5\r\n", b"*10000\r\n", b"\r\n", b"$-5\r\n", b":\r\n",
            ]
        ),
        st.binary(max_size=12),
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip

OPERATIONS: list[Callable[[RedisSessionRepository], Any]] = [
    lambda r: r.get("a"),
    lambda r: r.get_many(["a", "b"]),
    lambda r: r.create(NewSession(user_id="ann")),
    lambda r: r.update("a", changes={"x": 1}),
    lambda r: r.change("a", changes={"x": 1}),
    lambda r: r.replace("a", data={}),
    lambda r: r.touch("a"),
    lambda r: r.delete("a"),
    lambda r: r.delete_user("ann"),
    lambda r: r.list_sessions(),
    lambda r: r.statistics(),
    lambda r: r.clean(10),
    lambda r: r.lead("a", "b", 1),
    lambda r: r.open_generation(),
    lambda r: r.describe(),
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=PIECES, chosen=st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=4))
def test_no_bytes_hang_a_call_or_spoil_the_next(
    pieces: list[bytes], chosen: list[Callable[[RedisSessionRepository], Any]]
) -> None:
    async def run() -> None:
        healthy = False

        async def answer(peer: Peer, command: list[bytes]) -> None:
            if healthy:
                peer.reply(b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1]))
            else:
                for piece in pieces:
                    peer.reply(piece)

        async with FakeRedis(answer) as server:
            connection = Connection("127.0.0.1", server.port, deadline=0.05)
            repository = RedisSessionRepository(connection, prefix="1-fuzz")
            async with asyncio.timeout(5):
                outcomes = await asyncio.gather(
                    *[operation(repository) for operation in chosen], return_exceptions=True
                )
            healthy = True
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    assert isinstance(outcome, SessionOpsError), repr(outcome)
            echoed: Any = None
            async with asyncio.timeout(5):
                for _ in range(50):
                    echoed = (await asyncio.gather(connection.call("ECHO", "well"), return_exceptions=True))[0]
                    if echoed == b"well":
                        break
                    await asyncio.sleep(0.02)
            assert echoed == b"well"
            await connection.close()
            assert connection.in_flight == 0

    asyncio.run(run())
