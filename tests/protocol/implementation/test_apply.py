"""The guards of APPLY: the mirror of a write, the end of a move back and of a delete."""

from __future__ import annotations

import asyncio

from session_ops.records import Record, Session
from tests.protocol.implementation.rig import OFF, ON, Fleet


async def killed(fleet: Fleet, session_id: str) -> Record:
    """A tombstone that is not in the legacy store yet."""
    changed = await fleet.generation.kill(session_id, None)
    assert changed is not None
    return changed.record


async def test_apply_asks_for_a_lower_version(either: Fleet) -> None:
    session_id = await either.born(ON)
    early, late = await either.written(session_id, 2), await either.written(session_id, 3)
    assert await either.steps.apply(late, 1)
    assert not await either.steps.apply(early, 1)
    assert (await either.row(session_id)).session.data == {"step": 3}


async def test_apply_asks_for_its_generation(either: Fleet) -> None:
    session_id = await either.born(ON)
    await either.written(session_id, 2)
    late = await either.written(session_id, 3)
    await either.bump()
    assert await either.steps.claim(session_id, 2)
    assert not await either.steps.apply(late, 1)
    assert (await either.row(session_id)).session.data == {"step": 1}


async def test_apply_takes_the_data_of_the_marker(either: Fleet) -> None:
    session_id = await either.born(ON)
    row = await either.row(session_id)
    await either.written(session_id, 2)
    moved = await either.generation.mark(row)
    assert moved is not None
    assert await either.steps.apply(moved, 1)
    back = await either.row(session_id)
    assert (back.owner, back.session.data) == ("legacy", {"step": 2})


async def test_apply_keeps_the_data_where_the_marker_was_never_filled(either: Fleet) -> None:
    session_id = await either.born(OFF)
    marker = await either.generation.mark(await either.steps.claim(session_id, 1))
    assert marker is not None
    assert await either.steps.apply(marker, 1)
    assert (await either.row(session_id)).session.data == {"step": 1}


async def test_apply_never_takes_an_expiry_back(either: Fleet) -> None:
    session_id = await either.born(ON)
    late = await either.written(session_id, 2)
    await either.sql(f"UPDATE sessions SET expires_at = expires_at + 10000000 WHERE id = '{session_id}'")
    before = (await either.row(session_id)).session.expires_at
    assert await either.steps.apply(late, 1)
    assert (await either.row(session_id)).session.expires_at == before


async def test_apply_makes_a_row_only_while_the_legacy_store_is_incomplete(either: Fleet) -> None:
    session_id = await either.born(ON)
    late = await either.written(session_id, 2)
    await either.sql("DELETE FROM sessions")
    assert not await either.steps.apply(late, 1)
    assert not await either.steps.apply_absent(late, 1)
    await either.mode(control="final")
    assert not await either.steps.apply_absent(late, 0), "of another generation"
    assert await either.steps.apply_absent(late, 1)
    assert (await either.row(session_id)).session.data == {"step": 2}


async def test_apply_where_a_row_may_be_missing_asks_for_a_lower_version(either: Fleet) -> None:
    session_id = await either.born(ON)
    early, late = await either.written(session_id, 2), await either.written(session_id, 3)
    await either.mode(control="final")
    assert await either.steps.apply_absent(late, 1)
    assert not await either.steps.apply_absent(early, 1)
    assert (await either.row(session_id)).session.data == {"step": 3}


async def test_deleted_rows_stay_and_no_late_mirror_revives_them_on_the_way_back_from_final(either: Fleet) -> None:
    session_id = await either.born(ON)
    late = await either.written(session_id, 2)
    assert await either.steps.apply(await killed(either, session_id), 1)
    cleaner = either.host(OFF).repository
    await cleaner.told(await cleaner.clean(10))
    await cleaner.clean(10)
    await either.mode(control="final")
    assert not await either.steps.apply_absent(late, 1)
    assert (await either.row(session_id)).deleted


async def test_a_row_deleted_in_the_legacy_store_stays_too(either: Fleet) -> None:
    session_id = await either.born(OFF)
    assert await either.steps.end(await either.row(session_id), 1)
    assert (await either.row(session_id)).deleted


async def test_a_batch_brings_the_newest_version_of_a_session(either: Fleet) -> None:
    for newest_first in (False, True):
        session_id = await either.born(ON)
        early, late = await either.written(session_id, 2), await either.written(session_id, 3)
        batch = (late, early) if newest_first else (early, late)
        assert await asyncio.gather(*[either.steps.apply(record, 1) for record in batch]) == [True, True]
        assert (await either.row(session_id)).session.data == {"step": 3}


async def test_a_lower_version_of_a_batch_is_in_the_row_only_where_the_newest_is(either: Fleet) -> None:
    session_id = await either.born(ON)
    early, late = await either.written(session_id, 2), await either.written(session_id, 3)
    await either.bump()
    assert await either.legacy_write(await either.row(session_id), 4, 2)
    assert await asyncio.gather(*[either.steps.apply(record, 1) for record in (early, late)]) == [False, False]


async def test_a_tombstone_ends_the_row(either: Fleet) -> None:
    session_id = await either.born(ON)
    assert isinstance(await either.generation.read(session_id), Session)
    assert await either.steps.apply(await killed(either, session_id), 1)
    row = await either.row(session_id)
    assert (row.deleted, row.owner, row.session.data) == (True, "legacy", {})
