"""The guards of the steps in Redis that concern one session: PUT, CAS, KILL and MARK."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from session_ops.errors import CorruptSessionError
from session_ops.limits import encode_attributes
from session_ops.records import Session
from session_ops.stores.found import Missing, Put
from session_ops.stores.layout import Marked, pack_mark, pack_session
from tests.owned import as_administrator
from tests.protocol.implementation.rig import OFF, ON, Fleet, ending

if TYPE_CHECKING:
    from session_ops.generation import RedisGeneration
    from session_ops.operations import Changed
    from session_ops.records import Row
    from session_ops.stores.layout import Packed

MARGIN = 300_000
"""What a record outlives its session by at least, in ms."""


async def merge(redis: RedisGeneration, session_id: str) -> Changed | None:
    return await redis.merge(session_id, {"step": 9}, (), None)


async def rewrite(redis: RedisGeneration, session_id: str) -> Changed | None:
    return await redis.rewrite(session_id, {"step": 9}, None)


async def slide(redis: RedisGeneration, session_id: str) -> Changed | None:
    return await redis.slide(session_id)


async def kill(redis: RedisGeneration, session_id: str) -> Changed | None:
    return await redis.kill(session_id, None)


CHANGES = [merge, rewrite, slide, kill]


async def claimed(fleet: Fleet) -> Row:
    row = await fleet.steps.claim(await fleet.born(OFF), 1)
    assert row is not None
    return row


def packed(row: Row) -> Packed:
    return pack_session(row.session, *encode_attributes(row.session.data, None))


async def claimed_until(fleet: Fleet, milliseconds: int) -> str:
    """A session that was moved to Redis and ends so many ms from now, though its TTL would let it slide."""
    session_id = await fleet.born(OFF)
    row = await fleet.steps.claim(session_id, 1)
    assert await fleet.generation.put(ending(row, await fleet.steps.now() + milliseconds)) == Put.WRITTEN
    return session_id


async def test_put_asks_for_a_lower_version(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    late = await fleet.steps.claim(session_id, 1)
    await fleet.generation.put(late)
    await kill(fleet.generation, session_id)
    assert await fleet.generation.put(late) == Put.NEWER
    found = await fleet.generation.read(session_id)
    assert isinstance(found, Missing)
    assert found.record is not None
    assert found.record.state == "deleted"


async def test_put_of_a_row_that_has_expired_writes_nothing(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    row = await fleet.steps.claim(session_id, 1)
    past = ending(row, await fleet.steps.now() - 1000)
    assert await fleet.generation.put(past) == Put.EXPIRED
    assert await as_administrator(fleet.redis, "EXISTS", fleet.key(session_id)) == 0


async def test_put_of_a_row_that_has_expired_tells_what_redis_has(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    row = await fleet.steps.claim(session_id, 1)
    await fleet.generation.put(row)
    past = ending(row, await fleet.steps.now() - 1000)
    assert await fleet.generation.put(past) == Put.HELD


async def test_puts_that_share_a_call_are_judged_one_by_one(fleet: Fleet) -> None:
    new, known, past, held, other = [await claimed(fleet) for _ in range(5)]
    await fleet.generation.put(known)
    await fleet.generation.put(held)
    await as_administrator(fleet.redis, "SET", fleet.key(other.session.id), "no session")
    earlier = await fleet.steps.now() - 1000

    answers = await fleet.generation.put_together(
        [packed(row) for row in (new, known, ending(past, earlier), ending(held, earlier), other, new)]
    )

    assert answers == [Put.WRITTEN, Put.NEWER, Put.EXPIRED, Put.HELD, None, Put.NEWER]
    assert await fleet.generation.read(new.session.id) == new.session
    assert await as_administrator(fleet.redis, "EXISTS", fleet.key(past.session.id)) == 0


async def test_of_two_puts_of_a_session_in_a_call_the_second_finds_the_first(fleet: Fleet) -> None:
    new = await claimed(fleet)
    older = msgspec.structs.replace(new, session=msgspec.structs.replace(new.session, version=1))

    assert await fleet.generation.put_together([packed(new), packed(older)]) == [Put.WRITTEN, Put.NEWER]
    assert await fleet.generation.read(new.session.id) == new.session


async def test_marks_that_share_a_call_are_judged_one_by_one(fleet: Fleet) -> None:
    there, absent, other = [await claimed(fleet) for _ in range(3)]
    await fleet.generation.put(there)
    await as_administrator(fleet.redis, "SET", fleet.key(other.session.id), "no session")

    *marked, corrupt = await fleet.generation.mark_together([pack_mark(row.session) for row in (there, absent, other)])

    assert marked == [
        Marked(there.session.version + 1, moved=True, filled=True),
        Marked(absent.session.version + 1, moved=True, filled=False),
    ]
    assert isinstance(corrupt, CorruptSessionError)
    assert await fleet.generation.put(absent) == Put.NEWER


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_takes_active_records_alone(fleet: Fleet, change: type(merge)) -> None:  # type: ignore[valid-type]
    session_id = await claimed_until(fleet, 60_000)
    assert await fleet.generation.mark(await fleet.row(session_id))
    assert await change(fleet.generation, session_id) is None


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_leaves_what_has_expired(fleet: Fleet, change: type(merge)) -> None:  # type: ignore[valid-type]
    session_id = await claimed_until(fleet, 150)
    await asyncio.sleep(0.2)
    assert await change(fleet.generation, session_id) is None


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_raises_the_version(fleet: Fleet, change: type(merge)) -> None:  # type: ignore[valid-type]
    session_id = await claimed_until(fleet, 60_000)
    changed = await change(fleet.generation, session_id)
    assert changed is not None
    assert await fleet.steps.apply(changed.record, 1)


async def test_reads_take_active_records_alone(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    assert await fleet.generation.mark(await fleet.row(session_id))
    assert not isinstance(await fleet.generation.read(session_id), Session)


async def test_reads_leave_what_has_expired(fleet: Fleet) -> None:
    session_id = await claimed_until(fleet, 150)
    await asyncio.sleep(0.2)
    assert not isinstance(await fleet.generation.read(session_id), Session)


async def test_kill_leaves_a_tombstone(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    late = await fleet.steps.claim(session_id, 1)
    await fleet.generation.put(late)
    await kill(fleet.generation, session_id)
    await fleet.generation.put(late)
    assert not isinstance(await fleet.generation.read(session_id), Session), "a late put has revived the session"


async def test_kill_raises_the_version_of_what_it_ends(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    killed = await kill(fleet.generation, session_id)
    assert killed is not None
    assert await fleet.steps.apply(killed.record, 1)
    assert (await fleet.row(session_id)).deleted


async def test_mark_raises_the_version(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    marked = await fleet.generation.mark(await fleet.row(session_id))
    assert marked is not None
    assert await fleet.steps.apply(marked, 1)
    assert (await fleet.row(session_id)).owner == "legacy"


async def test_mark_on_an_absent_key_raises_the_version(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    marked = await fleet.generation.mark(await fleet.steps.claim(session_id, 1))
    assert marked is not None
    assert await fleet.steps.apply(marked, 1)


async def test_mark_on_an_absent_key_stops_a_late_put(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    late = await fleet.steps.claim(session_id, 1)
    assert await fleet.generation.mark(late)
    assert await fleet.generation.put(late) == Put.NEWER


async def test_mark_over_an_older_marker_stops_a_late_put(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    marker = await fleet.generation.mark(await fleet.steps.claim(session_id, 1))
    assert marker is not None
    assert await fleet.steps.apply(marker, 1)
    late = await fleet.steps.claim(session_id, 1)
    assert await fleet.generation.mark(late)
    assert await fleet.generation.put(late) == Put.NEWER


async def lasts(fleet: Fleet, session_id: str) -> int:
    """When the key goes by its own TTL, in ms."""
    return int(await as_administrator(fleet.redis, "PEXPIRETIME", fleet.key(session_id)))


async def test_a_tombstone_lives_as_long_as_the_session(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    expires_at = (await fleet.row(session_id)).session.expires_at
    await kill(fleet.generation, session_id)
    assert await lasts(fleet, session_id) >= expires_at + MARGIN


@pytest.mark.parametrize("filled", [True, False])
async def test_a_marker_lives_as_long_as_the_session(fleet: Fleet, filled: bool) -> None:
    session_id = await fleet.born(OFF)
    row = await fleet.steps.claim(session_id, 1)
    if filled:
        await fleet.generation.put(row)
    await fleet.generation.mark(row)
    assert await lasts(fleet, session_id) >= row.session.expires_at + MARGIN
