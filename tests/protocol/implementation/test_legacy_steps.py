"""The guards of the steps in SQL: CLAIM, CAS, INSERT and PURGE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.implementation.rig import OFF, ON, Fleet

if TYPE_CHECKING:
    from session_ops.records import Row


async def test_claim_takes_only_what_the_legacy_store_owns(either: Fleet) -> None:
    session_id = await either.born(ON)
    write = await either.written(session_id, 2)
    assert await either.steps.claim(session_id, 1) is None
    assert await either.steps.apply(write, 1), "the claim has raised the row's version above an unmirrored write's"


async def test_claim_leaves_what_a_newer_generation_has_written(either: Fleet) -> None:
    session_id = await either.born(OFF)
    await either.bump()
    assert await either.legacy_write(await either.row(session_id), 2, 2)
    assert await either.steps.claim(session_id, 1) is None


async def test_claim_raises_the_version(either: Fleet) -> None:
    session_id = await either.born(OFF)
    seen = await either.row(session_id)
    claimed = await either.steps.claim(session_id, 1)
    await either.generation.put(claimed)
    assert not await either.steps.end(seen, 1), "a delete of the row as it was seen before the move"


async def test_cas_asks_for_the_version_seen(either: Fleet) -> None:
    session_id = await either.born(OFF)
    seen = await either.row(session_id)
    assert await either.legacy_write(seen, 2, 1)
    assert await either.legacy_write(seen, 3, 1) is None
    assert await either.steps.touch(seen, 1) is None
    assert not await either.steps.end(seen, 1)
    assert (await either.row(session_id)).session.data == {"step": 2}


async def test_cas_leaves_what_has_expired(either: Fleet) -> None:
    session_id = await either.born(OFF)
    await either.expire(session_id)
    seen = await either.row(session_id)
    assert await either.legacy_write(seen, 2, 1) is None
    assert await either.steps.touch(seen, 1) is None


async def test_cas_sets_the_generation(either: Fleet) -> None:
    session_id = await either.born(ON)
    await either.written(session_id, 2)
    late = await either.written(session_id, 3)
    await either.bump()
    assert await either.legacy_write(await either.row(session_id), 4, 2)
    assert not await either.steps.apply(late, 1)
    assert (await either.row(session_id)).session.data == {"step": 4}


async def insert(fleet: Fleet, owner: str, g: int) -> Row | None:
    """INSERT of a new session."""
    parameters = fleet.steps.insert_parameters("new", "ann", None, None, data="{}", revision="00" * 8)
    row: Row | None = await fleet.steps.insert(parameters, owner, g)
    return row


async def test_insert_for_redis_is_in_the_generation_that_the_host_knows(either: Fleet) -> None:
    await either.bump(to_redis=False)
    assert await insert(either, "redis", 1) is None
    assert (await either.steps.get("new")).row is None, "a session that no store serves"


async def test_insert_for_redis_leaves_a_closing_generation(either: Fleet) -> None:
    await either.sql("UPDATE session_control SET closing = 'token'")
    assert await insert(either, "redis", 1) is None


async def test_insert_for_the_legacy_store_is_in_mode_mirror_alone(either: Fleet) -> None:
    for mode in ("hold", "final"):
        await either.mode(control=mode)
        assert await insert(either, "legacy", 1) is None
    await either.mode(control="mirror")
    assert await insert(either, "legacy", 1) is not None


async def test_purge_asks_for_the_version_seen(either: Fleet) -> None:
    session_id = await either.born(ON)
    seen = await either.row(session_id)
    assert await either.steps.apply(await either.written(session_id, 2), 1)
    assert not await either.steps.purge(seen)
    assert (await either.row(session_id)).session.data == {"step": 2}


async def test_an_end_is_given_out_at_the_version_seen(either: Fleet) -> None:
    session_id = await either.born(ON)
    await either.expire(session_id)
    (seen,) = await either.steps.lapsed(1, 10)
    await either.sql(f"UPDATE sessions SET version = version + 1 WHERE id = '{session_id}'")
    assert await either.steps.give(seen, 1) == []
