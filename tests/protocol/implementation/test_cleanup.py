"""The guards of cleanup while the legacy store is complete."""

from __future__ import annotations

import asyncio

from tests.protocol.implementation.rig import ON, Fleet, Pause

LEASE = 0.4
DAY = -86_400_000


async def given_out(fleet: Fleet, session_id: str) -> None:
    """The row says: expired long ago, and told."""
    await fleet.expire(session_id, DAY)
    await fleet.sql(f"UPDATE sessions SET told_at = 1 WHERE id = '{session_id}'")


async def test_an_end_is_told_only_after_redis_was_asked(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.expire(session_id)
    host = await fleet.looked(ON)
    assert await host.repository.clean(10) == []
    assert await host.repository.get(session_id)


async def test_a_row_is_removed_only_after_redis_was_asked(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await given_out(fleet, session_id)
    await (await fleet.looked(ON)).repository.clean(10)
    assert (await fleet.steps.get(session_id)).row is not None


async def test_what_is_newer_in_redis_is_brought_to_the_row_instead(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.written(session_id, 2)
    await fleet.expire(session_id)
    assert await (await fleet.looked(ON)).repository.clean(10) == []
    row = await fleet.row(session_id)
    assert (row.session.data, row.ended) == ({"step": 2}, False)


async def test_the_legacy_stores_own_cleanup_leaves_what_redis_owns(fleet: Fleet) -> None:
    for prepare in (fleet.expire, lambda session_id: given_out(fleet, session_id)):
        session_id = await fleet.born(ON)
        await prepare(session_id)
        assert await fleet.by_hand.store.legacy.clean(10) == []
        assert (await fleet.steps.get(session_id)).row is not None


async def test_without_a_lease_cleanup_leaves_what_redis_owns(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.generation.kill(session_id, None)
    await fleet.expire(session_id)
    host = await fleet.looked(ON, lease=LEASE)
    pause = Pause(host.store.generations.current, "read", after=True)
    cleaning = asyncio.create_task(host.repository.clean(10))
    await pause.until(cleaning)
    await asyncio.sleep(LEASE)
    pause.go.set()
    assert await cleaning == []
