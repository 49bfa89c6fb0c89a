"""The guards of the procedure: what an operation does between its steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import OutcomeUnknownError
from session_ops.records import NewSession, Session
from tests.owned import as_administrator, load_functions
from tests.protocol.implementation.rig import OFF, ON, Fleet, Pause, ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.owned import Host


async def test_a_write_is_in_the_legacy_store_before_it_is_acknowledged(either: Fleet) -> None:
    session_id = await either.born(ON)
    await (await either.looked(ON)).repository.update(session_id, changes={"step": 2})
    row = await either.row(session_id)
    assert (row.owner, row.session.data) == ("redis", {"step": 2})


async def test_a_delete_is_in_the_legacy_store_before_it_is_acknowledged(either: Fleet) -> None:
    session_id = await either.born(ON)
    assert await (await either.looked(ON)).repository.delete(session_id)
    assert (await either.row(session_id)).deleted


async def test_a_reader_finishes_a_tombstone_before_it_answers(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.generation.kill(session_id, None)
    assert await (await fleet.looked(ON)).repository.get(session_id) is None
    assert (await fleet.row(session_id)).deleted, "after a rollback the session is back"


async def test_a_second_delete_finishes_the_tombstone_of_the_first(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.generation.kill(session_id, None)
    await (await fleet.looked(ON)).repository.delete(session_id)
    assert (await fleet.row(session_id)).deleted


async def test_a_row_alive_in_a_newer_generation_outlives_an_old_tombstone(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON)
    pause = Pause(host.store.steps, "apply")
    deleting = asyncio.create_task(host.repository.delete(session_id))
    await pause.until(deleting)
    await fleet.bump()
    assert await fleet.legacy_write(await fleet.row(session_id), 2, 2)
    pause.go.set()
    assert await deleting
    assert (await fleet.row(session_id)).deleted, "acknowledged as deleted, and alive"


async def test_a_write_of_another_generation_is_not_taken_for_included(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON)
    pause = Pause(host.store.steps, "apply")
    writing = asyncio.create_task(host.repository.update(session_id, changes={"step": 2}))
    await pause.until(writing)
    await fleet.bump()
    for step in (3, 4, 5):
        assert await fleet.legacy_write(await fleet.row(session_id), step, 2)
    pause.go.set()
    with pytest.raises(OutcomeUnknownError):
        await writing


async def test_a_write_that_a_later_mirror_took_along_is_acknowledged(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    host = await fleet.looked(ON)
    pause = Pause(host.store.steps, "apply")
    writing = asyncio.create_task(host.repository.update(session_id, changes={"step": 2}))
    await pause.until(writing)
    assert await fleet.steps.apply(await fleet.written(session_id, 3), 1)
    pause.go.set()
    assert (await writing).data == {"step": 2}


def whenever(owner: Any, name: str, then: Callable[[], Awaitable[Any]]) -> None:
    """Let somebody else act after each call."""
    inner = getattr(owner, name)

    async def call(*arguments: Any) -> Any:
        answer = await inner(*arguments)
        await then()
        return answer

    setattr(owner, name, call)


def current(host: Host) -> Any:
    """The host's steps in Redis."""
    return host.store.generations.current


async def test_an_operation_moves_a_session_to_redis_once(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    here, there = await fleet.looked(ON), await fleet.looked(OFF)
    whenever(current(here), "put", lambda: there.repository.get(session_id))
    assert await here.repository.get(session_id)
    assert here.moves == ["redis"]


async def test_an_operation_moves_a_session_back_once(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    here, there = await fleet.looked(OFF), await fleet.looked(ON)
    whenever(here.store.steps, "apply", lambda: there.repository.get(session_id))
    assert await here.repository.get(session_id)
    assert here.moves == ["legacy"]


async def test_a_flip_does_not_keep_callers_waiting_for_the_moves_of_all_sessions(fleet: Fleet) -> None:
    ids = [await fleet.born(ON) for _ in range(20)]
    host = await fleet.looked(OFF, moves_per_second=5)
    for session_id in ids:
        changed = await host.repository.update(session_id, changes={"step": 2})
        assert changed.data == {"step": 2}, "whoever may not move it works where it is"
    assert 5 <= len(host.moves) < 20
    owners = [(await fleet.row(session_id)).owner for session_id in ids]
    assert owners.count("legacy") == len(host.moves)


async def test_of_an_expired_row_that_redis_owns_redis_decides(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.expire(session_id)
    assert await (await fleet.looked(OFF)).repository.get(session_id), "its touch is not mirrored yet"


async def test_an_expired_row_that_redis_knows_nothing_of_is_looked_at_twice(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    row = await fleet.steps.claim(session_id, 1)
    soon = await fleet.steps.now() + 1500
    await fleet.sql(f"UPDATE sessions SET expires_at = {soon} WHERE id = '{session_id}'")
    reader = await fleet.looked(ON)
    pause = Pause(current(reader), "put")
    reading = asyncio.create_task(reader.repository.get(session_id))
    await pause.until(reading)
    marker = await fleet.generation.mark(ending(row, soon))
    assert marker is not None
    assert await fleet.steps.apply(marker, 1)
    assert await fleet.steps.touch(await fleet.row(session_id), 1)
    await asyncio.sleep(max(0, soon - await fleet.steps.now()) / 1000 + 0.05)
    pause.go.set()
    assert await reading, "another host has moved the session back and touched it in time"


async def test_an_interrupted_move_to_redis_is_finished_by_the_next_reader(fleet: Fleet) -> None:
    session_id = await fleet.born(OFF)
    await fleet.steps.claim(session_id, 1)
    assert await (await fleet.looked(ON)).repository.get(session_id)
    assert isinstance(await fleet.generation.read(session_id), Session)


async def test_an_interrupted_move_back_is_finished_by_the_next_reader(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    row = await fleet.row(session_id)
    await fleet.written(session_id, 2)
    await fleet.generation.mark(row)
    found = await (await fleet.looked(ON)).repository.get(session_id)
    assert found is not None
    assert found.data == {"step": 2}


async def lose_data_before_the_put(fleet: Fleet, host: Host) -> None:
    """Redis loses everything between INSERT and PUT."""

    async def lost(*arguments: Any) -> Any:
        await as_administrator(fleet.redis, "FLUSHALL")
        await load_functions(fleet.redis)
        return await put(*arguments)

    put = current(host).put
    current(host).put = lost


async def test_a_create_that_redis_has_not_taken_goes_on_with_a_new_id(fleet: Fleet) -> None:
    host = await fleet.looked(ON)
    await lose_data_before_the_put(fleet, host)
    born = Pause(host.store.steps, "insert", after=True)
    born.go.set()
    session = await host.repository.create(NewSession(user_id="ann"))
    assert (await fleet.row(session.id)).owner == "legacy"
    rows = (await fleet.by_hand.store.legacy.list_sessions(user_id="ann")).sessions
    assert len(rows) == 2, "the id whose PUT may still arrive is left alone"


async def test_a_create_under_a_given_id_does_not_go_on_where_redis_has_not_taken_it(fleet: Fleet) -> None:
    host = await fleet.looked(ON)
    await lose_data_before_the_put(fleet, host)
    with pytest.raises(OutcomeUnknownError):
        await host.repository.create(NewSession(user_id="ann", id="given"))
