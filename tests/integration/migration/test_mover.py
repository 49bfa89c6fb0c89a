"""The mover on real stores: both directions, percentages and canaries, and that a second run has nothing to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from session_ops.errors import PreconditionError
from session_ops.stores.layout import Names
from session_ops.stores.legacy_rows import bucket_of
from tests.integration.migration.mismatches import generation_of
from tests.owned import as_administrator

if TYPE_CHECKING:
    from tests.integration.migration.moving import Migration


async def test_every_session_moves_in_and_home_again_and_a_second_run_changes_nothing(migration: Migration) -> None:
    await migration.open(rows=1_200)
    await migration.want(100)

    there = await migration.move()
    again = await migration.move()

    assert (there.state, there.moved_in, there.moved_back, there.quarantined) == ("done", 1_200, 0, 0)
    assert not again.changed
    assert await migration.owners() == {"redis": 1_200}
    assert await migration.disagreements() == []

    await migration.want(100, on=False)
    back = await migration.move()
    assert (back.state, back.moved_in, back.moved_back) == ("done", 0, 1_200)
    assert not (await migration.move()).changed
    assert await migration.owners() == {"legacy": 1_200}
    assert await migration.disagreements() == []


async def test_the_percentage_and_the_canaries_say_which_sessions_move(migration: Migration) -> None:
    await migration.open(rows=600)
    names = [f"s{number}" for number in range(1, 601)]
    canaries = [name for name in names if bucket_of(name) >= 90][:3]
    expected = {share: sum(bucket_of(name) < share for name in names) for share in (10, 50)}

    await migration.want(0, *canaries)
    assert (await migration.move()).moved_in == 3
    await migration.want(50, *canaries)
    assert (await migration.move()).moved_in == expected[50]
    await migration.want(10)
    down = await migration.move()

    assert (down.moved_in, down.moved_back) == (0, expected[50] - expected[10] + 3)
    assert await migration.owners() == {"redis": expected[10], "legacy": 600 - expected[10]}
    assert await migration.disagreements() == []


async def test_without_a_server_nothing_can_move_there_and_the_next_step_is_said(migration: Migration) -> None:
    await migration.open(rows=3)
    await migration.sql("UPDATE session_control SET prefix = NULL, pin = NULL, redis = 'off'")
    await migration.want(100)

    with pytest.raises(PreconditionError, match="generation bump --execute"):
        await migration.move()

    assert await migration.owners() == {"legacy": 3}


async def test_what_old_generations_left_in_redis_goes_before_it_is_filled_again(migration: Migration) -> None:
    await migration.open(rows=500)
    await migration.want(100)
    await migration.move()
    old = (await migration.store.control_store.read()).prefix
    await migration.bump()
    room = []

    async def before(step: str) -> None:
        if step == "take" and not room:
            room.extend(await as_administrator(migration.server, "KEYS", f"*{old}*"))
            room.append("looked")

    done = await migration.mover(migration.host(), before=before).run()

    control = await migration.store.control_store.read()
    assert (done.unlinked, done.moved_in) == (500, 500)
    assert room == ["looked"]
    assert control.old_prefixes == ()
    assert await migration.disagreements() == []
    assert (await migration.move()).unlinked == 0


async def test_a_write_that_only_redis_has_goes_home_with_its_data(migration: Migration) -> None:
    await migration.open(rows=3)
    await migration.want(100)
    await migration.move()
    redis = await generation_of(migration)
    assert await redis.merge("s2", {"step": 2}, (), None) is not None  # its mirror never came

    await migration.want(0)
    assert (await migration.move()).moved_back == 3

    rows = await migration.sql("SELECT sid, CAST(attributes AS TEXT) FROM visits ORDER BY sid")
    assert [json.loads(row[1])["step"] for row in rows] == [1, 2, 1]
    assert await migration.disagreements() == []


async def test_what_is_no_session_in_redis_is_kept_aside_on_the_way_home(migration: Migration) -> None:
    await migration.open(rows=3)
    await migration.want(100)
    await migration.move()
    redis = await generation_of(migration)
    key = Names(redis.prefix, 0).session_key("s2")
    await as_administrator(migration.server, "DEL", key.decode())
    await as_administrator(migration.server, "SET", key.decode(), "no session")

    await migration.want(0)
    moved = await migration.move()

    assert (moved.state, moved.moved_back, moved.quarantined) == ("done", 2, 1)
    [kept] = await migration.quarantine.list(10)
    assert (kept.id, kept.reason) == ("s2", "no session under its key in Redis")
