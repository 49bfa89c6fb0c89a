"""How sessions are filed in Redis: in buckets by creation, and by their exact expiry only where that is near."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import OutcomeUnknownError
from session_ops.records import NewSession, Session
from session_ops.stores.layout import pack_head
from session_ops.stores.library import LIBRARY
from tests.conftest import service_connection
from tests.fake_redis import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.stores.connection import Connection
    from session_ops.stores.redis import RedisSessionRepository
    from tests.servers import RedisServer

    Make = Callable[..., RedisSessionRepository]

HOUR = 3_600_000
DAY = 24 * HOUR
FAR, NEAR = 1, 129
WRITTEN, NEWER = 2, 3
EXPIRES_AT = 26


class Keys:
    """The keys of the one generation in a Redis."""

    def __init__(self, administrator: Connection) -> None:
        self.call = administrator.call

    async def name(self, index: str) -> bytes:
        [generation] = await self.call("KEYS", "generation:*")
        return bytes(generation.replace(b"generation:", b"sessions:")) + b":" + index.encode()

    async def session(self, session_id: str) -> bytes:
        [generation] = await self.call("KEYS", "generation:*")
        return bytes(generation.replace(b"generation:", b"session:")) + b":" + session_id.encode()

    async def filed(self, session_id: str) -> int:
        """How the bookkeeping says that it is filed; the expiry index has to agree."""
        head = await self.call("HGET", await self.session(session_id), "")
        score = await self.call("ZSCORE", await self.name("expiry"), session_id)
        assert (score is not None) == (head[0] == NEAR)
        if score is not None:
            assert int(score) == int.from_bytes(head[EXPIRES_AT : EXPIRES_AT + 8], "little")
        return int(head[0])

    async def end_in(self, session_id: str, ms: int) -> int:
        """Have a session that is far from its end, end then; answers when."""
        key = await self.session(session_id)
        head = bytearray(await self.call("HGET", key, ""))
        assert head[0] == FAR
        expires_at = int(time.time() * 1000) + ms
        head[EXPIRES_AT : EXPIRES_AT + 8] = expires_at.to_bytes(8, "little")
        await self.call("HSET", key, "", bytes(head), change=True)
        [(start, _)] = await self.scores("due")
        await self.call("ZADD", await self.name("due"), expires_at, start, change=True)
        return expires_at

    async def scores(self, index: str) -> list[tuple[bytes, int]]:
        found = await self.call("ZRANGE", await self.name(index), 0, -1, "WITHSCORES")
        return [(member, int(score)) for member, score in zip(found[::2], found[1::2], strict=True)]


@pytest.fixture
def keys(administrator: Connection) -> Keys:
    return Keys(administrator)


def row(session_id: str, created: int, expires: int, version: int = 1) -> Session:
    return Session(
        id=session_id, user_id="ann", agent_id=None, data={}, created_at=created, updated_at=created,
        expires_at=expires, revision="00" * 8, version=version,
    )  # fmt: skip


async def put(keys: Keys, created: list[int]) -> list[tuple[int, str]]:
    """Move sessions in that were created then, as a mover does; the positions in which a list has them."""
    [generation] = await keys.call("KEYS", "generation:*")
    expires, placed = int(time.time() * 1000) + DAY, []
    for start in range(0, len(created), 100):
        batch = [(at, f"{random.getrandbits(64):022x}") for at in created[start : start + 100]]
        arguments: list[Any] = [HOUR]
        for at, session_id in batch:
            arguments.append(pack_head(row(session_id, at, expires), 2, 0))
        sessions = [await keys.session(session_id) for _, session_id in batch]
        answer = await keys.call(
            "FCALL", f"{LIBRARY}_put", len(batch) + 1, generation, *sessions, *arguments, "*", change=True
        )
        assert answer[2:] == [WRITTEN] * len(batch)
        placed += batch
    return sorted(placed)


async def test_more_attributes_than_lua_takes_at_once_are_all_put(make_repository: Make, keys: Keys) -> None:
    repository = make_repository()
    await repository.create(NewSession(user_id="ann"))
    [generation] = await keys.call("KEYS", "generation:*")
    fields = [part for number in range(9_000) for part in (f"a{number}".encode(), b"%d" % number)]
    wide = row("00" * 11, 5, int(time.time() * 1000) + DAY)
    head, key = pack_head(wide, sum(map(len, fields)), 9_000), await keys.session(wide.id)

    answer = await keys.call("FCALL", f"{LIBRARY}_put", 2, generation, key, HOUR, head, *fields, "*", change=True)

    assert answer[2:] == [WRITTEN]
    found = await repository.get(wide.id)
    assert found is not None
    assert found.data == {f"a{number}": number for number in range(9_000)}


@pytest.mark.usefixtures("make_repository")
@pytest.mark.parametrize("flaw", ["short", "no user", "a tombstone", "a name without its value", "a late margin"])
async def test_a_put_that_makes_no_sense_writes_nothing(keys: Keys, flaw: str) -> None:
    await put(keys, [1])
    [generation] = await keys.call("KEYS", "generation:*")
    good = row("00" * 11, 5, int(time.time() * 1000) + DAY)
    bad = row("11" * 11, 5, int(time.time() * 1000) + DAY)
    sound, head = pack_head(good, 2, 0), pack_head(bad, 2, 1 if flaw.startswith("a name") else 0)
    if flaw == "short":
        head = head[:20]
    elif flaw == "no user":
        head = head[:52] + b"\0\0"
    elif flaw == "a tombstone":
        head = head[:1] + b"\3" + head[2:]
    margin = "soon" if flaw == "a late margin" else HOUR
    sessions = [await keys.session(each.id) for each in (good, bad)]
    with pytest.raises(OutcomeUnknownError):
        await keys.call("FCALL", f"{LIBRARY}_put", 3, generation, *sessions, margin, sound, head, "*", change=True)

    assert await keys.call("EXISTS", *sessions) == 0


@pytest.mark.parametrize("kind", ["rising", "falling", "random", "few instants", "one instant", "behind a split"])
async def test_a_list_is_in_order_whatever_the_order_of_arrival(
    make_repository: Make, administrator: Connection, keys: Keys, kind: str
) -> None:
    draw = random.Random(kind)  # noqa: S311
    created = {
        "rising": list(range(1_000, 2_500)),
        "falling": list(range(2_500, 1_000, -1)),
        "random": [draw.randrange(10**9) for _ in range(1_500)],
        "few instants": [draw.randrange(9) for _ in range(1_500)],
        "one instant": [5] * 300,
        "behind a split": [*range(100), 60, *[10] * 20, *[60] * 9],
    }[kind]
    placed = await put(keys, created)
    repository = make_repository()
    gone = draw.sample(placed, len(placed) // 15)
    for _, session_id in gone:
        await repository.delete(session_id)
    left = sorted(set(placed) - set(gone))

    for order, expected in (("oldest", left), ("newest", left[::-1])):
        seen, cursor = [], None
        while True:
            page = await repository.list_sessions(order=order, limit=70, cursor=cursor)  # type: ignore[arg-type]
            seen += [(session.created_at, session.id) for session in page.sessions]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == expected
    assert await repository.count_active() == len(left)

    buckets = await administrator.call("KEYS", (await keys.name("created:")).decode() + "*")
    assert {key.rpartition(b":")[2] for key in buckets} == {start for start, _ in await keys.scores("created")}
    lives = [await administrator.call("PEXPIRETIME", key) for key in buckets]
    assert min(lives) > left[0][0] + DAY
    assert [start for start, _ in await keys.scores("created")] == sorted(
        [start for start, _ in await keys.scores("due")], key=int
    ), "every bucket is looked at in time"
    if "instant" not in kind:
        assert {await administrator.call("OBJECT", "ENCODING", key) for key in buckets} == {b"listpack"}
        assert len(buckets) <= max(2, len(left) / 50)


async def test_new_sessions_fill_their_buckets(make_repository: Make, keys: Keys) -> None:
    repository = make_repository()
    for _ in range(12):
        await asyncio.gather(*[repository.create(NewSession(user_id="ann")) for _ in range(100)])

    assert len(await keys.scores("created")) <= 13


async def test_a_bucket_is_due_with_the_first_of_its_sessions(make_repository: Make, keys: Keys) -> None:
    first = await make_repository(ttl=86_400).create(NewSession(user_id="ann"))
    await make_repository(ttl=2 * 86_400).create(NewSession(user_id="ann"))

    assert await keys.scores("due") == [(b"0", first.expires_at)]


@pytest.mark.usefixtures("make_repository")
async def test_what_is_created_in_one_instant_moves_on_together(keys: Keys) -> None:
    await put(keys, [*range(100), *[200] * 25])

    assert [start for start, _ in await keys.scores("created")] == [b"0", b"200"]


async def test_a_bucket_that_is_empty_leaves_the_directory(make_repository: Make, keys: Keys) -> None:
    placed = await put(keys, list(range(300)))
    assert len(await keys.scores("created")) == len(await keys.scores("due")) == 3
    repository = make_repository()

    for _, session_id in placed:
        await repository.delete(session_id)

    assert await keys.scores("created") == await keys.scores("due") == []
    assert await repository.count_active() == 0
    assert len(await repository.clean(1_000)) == 300
    assert await repository.count_active() == 0


async def test_a_session_is_in_the_expiry_index_only_near_its_end(make_repository: Make, keys: Keys) -> None:
    repository = make_repository(ttl=86_400)
    far = await repository.create(NewSession(user_id="ann"))
    near = await repository.create(NewSession(user_id="ann", ttl=3_600))
    assert await keys.filed(far.id) == FAR
    assert await keys.filed(near.id) == NEAR
    assert await repository.clean(10) == []
    assert await keys.filed(far.id) == FAR
    assert await repository.count_active() == 2

    await keys.end_in(far.id, HOUR)
    assert await repository.clean(10) == []

    assert await keys.filed(far.id) == NEAR
    after = await repository.get(far.id)
    assert after is not None
    assert (after.version, after.revision) == (far.version, far.revision), "nobody has changed it"
    assert await keys.scores("due") == []
    assert await repository.count_active() == 2


async def test_a_session_in_use_leaves_the_expiry_index_and_is_filed_no_more(
    make_repository: Make, administrator: Connection, keys: Keys
) -> None:
    repository = make_repository(ttl=86_400)
    session = await repository.create(NewSession(user_id="ann"))
    await keys.end_in(session.id, HOUR)
    await repository.clean(10)
    assert await keys.filed(session.id) == NEAR

    slid = await repository.touch(session.id)
    assert await keys.filed(session.id) == FAR
    [(_, due)] = await keys.scores("due")
    assert due == slid.expires_at
    await administrator.call("CONFIG", "RESETSTAT", change=True)
    # A longer TTL moves the expiry at once; the day it ends on stays the same or not, which the index of a user is told
    moved = await make_repository(ttl=86_400 + 86_400 // 10).change(session.id, changes={"a": 1})

    assert moved.expires_at > slid.expires_at
    assert await keys.scores("due") == [(b"0", due)], "a bound from below is enough"
    calls = (await administrator.call("INFO", "commandstats")).decode()
    if moved.expires_at // DAY == slid.expires_at // DAY:
        assert "cmdstat_zadd" not in calls
    assert "cmdstat_zrem" not in calls
    assert await repository.count_active() == 1


async def test_ends_that_cleanup_was_too_late_to_see_coming_are_found(make_repository: Make, keys: Keys) -> None:
    repository = make_repository(ttl=86_400)
    session = await repository.create(NewSession(user_id="ann", agent_id="helper"))
    expires_at = await keys.end_in(session.id, -5)
    assert await repository.count_active() == 0
    assert await repository.get(session.id) is None

    [ended] = await repository.clean(10)

    assert (ended.id, ended.user_id, ended.agent_id, ended.cause) == (session.id, "ann", "helper", "expired")
    assert ended.ended_at == expires_at
    assert await repository.count_active() == 0
    assert await keys.scores("created") == await keys.scores("due") == await keys.scores("expiry") == []


@pytest.mark.parametrize("filed", ["far", "near"])
@pytest.mark.parametrize("listed", ["before", "after", "never"])
async def test_the_end_of_a_session_whose_record_is_lost_is_told_once(
    make_repository: Make, keys: Keys, filed: str, listed: str
) -> None:
    repository = make_repository(ttl=86_400)
    session = await repository.create(NewSession(user_id="ann", ttl=1 if filed == "near" else None))
    other = await repository.create(NewSession(user_id="ann"))
    await keys.call("DEL", await keys.session(session.id), change=True)
    await asyncio.sleep(1.05 if filed == "near" else 0)

    async def look() -> None:
        assert (await repository.list_sessions()).sessions == [other]
        await repository.count_active()  # behind the heal on the same connection

    if listed == "before":
        await look()
    if filed == "far":
        [(start, _)] = await keys.scores("due")
        await keys.call("ZADD", await keys.name("due"), 1, start, change=True)
    told = []
    for _ in range(3):
        told += (ended := await repository.clean(10))
        await repository.told(ended)
    if listed == "after":
        await look()
    [(start, _)] = await keys.scores("due")
    await keys.call("ZADD", await keys.name("due"), 1, start, change=True)
    told += await repository.clean(10)

    assert [ended.id for ended in told] == [session.id]
    assert await repository.count_active() == 1
    assert [member for member, _ in await keys.scores("created:0")] == [other.id.encode()]
    assert await keys.scores("lost") == []


async def test_cleanup_looks_ahead_in_pieces_until_it_has_looked_at_all(
    redis_server: RedisServer, make_repository: Make, keys: Keys
) -> None:
    await put(keys, list(range(2_500)))
    for start, _ in await keys.scores("due"):
        await keys.call("ZADD", await keys.name("due"), 1, start, change=True)
    async with Proxy(redis_server.port) as proxy:
        connection = service_connection(redis_server)
        connection._port = proxy.port
        repository = make_repository(connection)
        await repository.get("warm")
        before = proxy.turns

        assert await repository.clean(10) == []

        assert proxy.turns - before == 3
        await connection.close()
    assert min(due for _, due in await keys.scores("due")) > time.time() * 1000


async def test_moving_back_and_forth_counts_once(make_repository: Make, keys: Keys) -> None:
    await put(keys, [1, 2, 3])
    [generation] = await keys.call("KEYS", "generation:*")
    repository = make_repository()
    [first, *_] = (await repository.list_sessions(order="oldest")).sessions
    await keys.call("SET", generation, "mirror", change=True)
    server = (await keys.call("INFO", "replication")).decode()
    pin = server.split("master_replid:")[1][:40]
    told = [first.version, 1, 1, first.expires_at, b"revision", 0, "ann", ""]
    key = await keys.session(first.id)
    for _ in range(2):
        await keys.call("FCALL", f"{LIBRARY}_mark", 2, generation, key, HOUR, DAY, 0, *told, pin, change=True)
    await keys.call("SET", generation, "final", change=True)
    assert await repository.count_active() == 2

    async def again(version: int, expires: int = first.expires_at) -> int:
        head = pack_head(row(first.id, 1, expires, version), 2, 0)
        answer = await keys.call("FCALL", f"{LIBRARY}_put", 2, generation, key, HOUR, head, "*", change=True)
        return int(answer[2])

    assert [await again(9), await again(9)] == [WRITTEN, NEWER]

    assert await repository.count_active() == 3
    assert await keys.filed(first.id) == FAR

    await repository.delete(first.id)
    assert await repository.count_active() == 2
    assert await again(99) == WRITTEN
    assert await repository.count_active() == 3

    soon = int(time.time() * 1000) + HOUR
    assert [await again(100, soon), await again(101, soon)] == [WRITTEN, WRITTEN], "near its end, it is in two indexes"
    assert await repository.count_active() == 3
    assert await keys.filed(first.id) == NEAR
