"""The guards of the lease: an answer of Redis counts while no bump can have ended its generation."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from session_ops.control import MAXIMUM_SKEW, HostControl
from session_ops.errors import RevisionConflictError, StoreUnavailableError
from session_ops.ownership import ROUNDS
from session_ops.stores.legacy_steps import clock
from tests.protocol.implementation.rig import LONG, ON, Fleet, Pause

if TYPE_CHECKING:
    from tests.owned import Host

LEASE = 0.4


async def overtake(fleet: Fleet, session_id: str) -> None:
    """Another generation, in which the legacy store writes step 2."""
    await fleet.bump()
    assert await fleet.legacy_write(await fleet.row(session_id), 2, 2)


async def read(host: Host, session_id: str) -> object:
    """What the host answers."""
    session = await host.repository.get(session_id)
    return session and session.data


async def test_a_host_without_a_lease_looks_before_it_trusts_redis(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON, lease=LEASE)
    assert await read(host, session_id) == {"step": 1}
    await overtake(fleet, session_id)
    await asyncio.sleep(LEASE)
    assert await read(host, session_id) == {"step": 2}


async def test_an_answer_that_arrives_after_the_lease_does_not_count(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON, lease=LEASE)
    pause = Pause(host.store.generations.current, "read", after=True)
    reading = asyncio.create_task(read(host, session_id))
    await pause.until(reading)
    await overtake(fleet, session_id)
    await asyncio.sleep(LEASE)
    pause.go.set()
    assert await reading == {"step": 2}


async def test_a_touch_that_finds_nothing_due_after_the_lease_is_a_read_that_does_not_count(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await (await fleet.looked(ON)).repository.touch(session_id)
    host = await fleet.looked(ON, lease=LEASE)
    pause = Pause(host.store.generations.current, "slide", after=True)
    touching = asyncio.create_task(host.repository.touch(session_id))
    await pause.until(touching)
    await overtake(fleet, session_id)
    await asyncio.sleep(LEASE)
    pause.go.set()
    assert (await touching).data == {"step": 2}


async def test_a_conflict_that_is_answered_after_the_lease_does_not_count(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON, lease=LEASE)
    pause = Pause(host.store.generations.current, "merge")
    writing = asyncio.create_task(host.repository.update(session_id, changes={"x": 1}, expected_revision="00" * 8))
    await pause.until(writing)
    await overtake(fleet, session_id)  # the legacy store's write has this revision
    await asyncio.sleep(LEASE)
    pause.go.set()
    assert (await writing).data == {"step": 2, "x": 1}


def late(host: Host, name: str, times: int) -> list[str]:
    """Let the first answers of a step in Redis arrive when the lease has run out; the ids it is asked for."""
    redis: Any = host.store.generations.current
    inner, asked = getattr(redis, name), list[str]()

    async def call(session_id: str, *arguments: Any) -> Any:
        asked.append(session_id)
        try:
            return await inner(session_id, *arguments)
        finally:
            if len(asked) <= times:
                await asyncio.sleep(LEASE)

    setattr(redis, name, call)
    return asked


async def test_redis_is_asked_again_after_answers_that_came_too_late(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON, lease=LEASE)
    asked = late(host, "read", 3)  # the first, at once, is not one of the operation's rounds
    assert await read(host, session_id) == {"step": 1}
    assert len(asked) == 4


async def test_a_conflict_that_came_too_late_is_answered_when_it_comes_in_time(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON, lease=LEASE)
    asked = late(host, "merge", 1)
    with pytest.raises(RevisionConflictError):
        await host.repository.update(session_id, changes={"step": 2}, expected_revision="00" * 8)
    assert len(asked) == 2


async def test_a_write_that_redis_has_made_is_acknowledged_however_late_the_answer_came(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON, lease=LEASE)
    asked = late(host, "merge", 1)
    await host.repository.update(session_id, changes={"step": 2})
    row = await fleet.row(session_id)
    assert (len(asked), row.session.data, row.session.version) == (1, {"step": 2}, 2)


async def test_a_link_that_is_slower_than_the_lease_is_given_up(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON, lease=LEASE)
    asked = late(host, "read", 100)
    with pytest.raises(StoreUnavailableError, match="redis: no lease"):
        await read(host, session_id)
    assert len(asked) < ROUNDS


async def test_a_host_whose_connections_are_all_taken_renews_its_lease(either: Fleet) -> None:
    host = await either.looked(ON, lease=LEASE)
    async with AsyncExitStack() as taken:
        for _ in range(8):
            await taken.enter_async_context(host.store.database.engine.connect())
        await asyncio.sleep(LEASE)
        await host.store.steps.control()
        assert host.store.ownership.usable() is not None


async def test_no_lease_is_granted_while_a_bump_is_closing(fleet: Fleet) -> None:
    assert await fleet.by_hand.store.control_store.close(1, "token")
    host = await fleet.looked(ON)
    assert host.store.ownership.usable() is None


async def test_a_lease_begins_when_the_look_was_sent(fleet: Fleet) -> None:
    seen, control = await fleet.steps.control(), HostControl(LONG)
    control.saw(seen, 0, clock() - LONG)
    assert not control.leased(1), "the look took as long as the lease lasts"
    control.saw(seen, 0, clock())
    assert control.leased(1)


async def test_a_look_that_was_overtaken_changes_nothing(fleet: Fleet) -> None:
    seen, control = await fleet.steps.control(), HostControl(LONG)
    control.saw(msgspec.structs.replace(seen, closing="token"), 0, clock())
    control.saw(seen, 0, clock() - 0.001)
    assert not control.leased(1)


async def test_a_lease_is_for_the_generation_that_was_seen(fleet: Fleet) -> None:
    seen, control = await fleet.steps.control(), HostControl(LONG)
    control.saw(seen, 0, clock())
    assert not control.leased(2)
    control.saw(msgspec.structs.replace(seen, generation=2, closing="token"), 0, clock())
    assert not control.leased(2)


async def test_there_is_no_lease_while_the_clocks_differ(fleet: Fleet) -> None:
    host = await fleet.looked(ON)
    control = host.store.control
    now = control.legacy_now()
    assert now is not None
    for ahead, usable in ((0, True), (MAXIMUM_SKEW + 500, False), (-MAXIMUM_SKEW - 500, False)):
        control.heard_redis(now + ahead)
        assert (host.store.ownership.usable() is not None) == usable
