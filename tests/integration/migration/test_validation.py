"""`migrate validate`: every mismatch is found by each way, lag is none, and a killed one is gone on with."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from session_ops.errors import PreconditionError, SessionNotFoundError, StoreUnavailableError
from session_ops.migration.validated import Validated
from session_ops.migration.validation import SOON
from session_ops.records import NewSession
from session_ops.settings import Flag
from tests.conftest import administrator_connection
from tests.integration.migration.mismatches import BY_HAND, PLANTED, REPAIRABLE, SECRET, generation_of, plant
from tests.protocol.stateful_steps import CrashError

if TYPE_CHECKING:
    from pathlib import Path

    from session_ops.migration.validated import Way
    from tests.integration.migration.moving import Migration

WAYS = ("full", "sample", "digest")


async def in_redis(migration: Migration, rows: int = 400, percent: int = 100) -> None:
    await migration.open(rows=rows)
    await migration.want(percent)
    await migration.move()


def found(done: Validated) -> dict[str, str]:
    return {each.id: each.kind for each in done.mismatches}


@pytest.mark.parametrize("way", WAYS)
async def test_every_mismatch_is_found_by_each_way(migration: Migration, way: Way) -> None:
    await in_redis(migration)
    clean = await migration.validator().run(way, sample=2_000)
    await plant(migration)

    done = await migration.validator().run(way, sample=2_000)

    assert found(clean) == {}
    assert clean.agree
    assert (clean.rows, clean.records, clean.in_redis) == (400, 400, 400)
    assert found(done) == PLANTED
    fields = {each.id: set(each.fields) for each in done.mismatches}
    assert (fields["s20"], fields["s21"], fields["s28"]) == ({"data"}, {"expires_at"}, {"user_id"})
    shown = repr(done)
    assert SECRET not in shown
    assert "somebody else" not in shown


async def test_half_a_move_leaves_both_stores_with_what_is_theirs(migration: Migration) -> None:
    await in_redis(migration, percent=50)

    done = await migration.validator().run("full")

    assert done.agree
    assert {"redis": done.in_redis, "legacy": done.in_legacy} == await migration.owners()
    assert done.records == done.in_redis


async def test_without_redis_every_session_is_the_legacy_stores(migration: Migration) -> None:
    await migration.open(rows=20)
    await migration.sql("UPDATE session_control SET pin = NULL, prefix = NULL, redis = 'off'")

    done = await migration.validator().run("full")

    assert (done.agree, done.redis, done.in_legacy, done.records) == (True, "off", 20, 0)


async def test_what_ends_soon_or_has_ended_is_left_out(migration: Migration) -> None:
    await in_redis(migration, rows=30)
    now = await migration.store.steps.now()
    async with migration.application.unguarded() as connection:
        for name, expires in (("s1", now + SOON // 2), ("s2", now - 1), ("s3", now + 2 * SOON)):
            await connection.exec_driver_sql(
                f"UPDATE {migration.application.table} SET expires = {expires}, owner = 'redis' WHERE sid = '{name}'"
            )
    names = (await generation_of(migration)).repository._functions.partitions[0]
    administrator = administrator_connection(migration.server)
    for name in ("s1", "s2", "s3"):
        await administrator.call("DEL", names.session_key(name), change=True)
    await administrator.close()

    done = await migration.validator().run("full")

    assert found(done) == {"s3": "not arrived"}


async def test_numbers_that_are_the_same_and_names_in_another_order_agree(migration: Migration) -> None:
    await in_redis(migration, rows=5)
    client = migration.host().repository
    await client.update("s1", changes={"b": 1.0, "a": {"y": 100.0, "x": [1e20, True]}, "é": "\U0001f600"})

    assert (await migration.validator().run("full")).agree
    assert (await migration.validator().run("digest")).agree
    for one, kinds in (("1", {}), ("true", {"s1": "content"})):
        async with migration.application.unguarded() as connection:
            await connection.exec_driver_sql(
                f'UPDATE {migration.application.table} SET attributes = \'{{"step": 1, "b": {one}, "é": "\U0001f600",'
                ' "a": {"y": 100, "x": [100000000000000000000, true]}}\' WHERE sid = \'s1\''
            )
        assert found(await migration.validator().run("full")) == kinds


async def test_a_final_generation_has_no_second_store_to_compare(migration: Migration) -> None:
    await migration.open(rows=1)
    await migration.sql("UPDATE session_control SET mode = 'final'")
    with pytest.raises(PreconditionError, match="final"):
        await migration.validator().run("full")


async def test_a_bump_in_the_middle_ends_it(migration: Migration) -> None:
    await in_redis(migration, rows=50)
    pages = 0

    async def bumped(step: str) -> None:
        nonlocal pages
        pages += step == "rows"
        if pages == 2:
            await migration.bump()

    throttled = migration.validator(before=bumped, lease=0.0)
    throttled._throttle.batch = 10
    done = await throttled.run("full")

    assert (done.state, found(done)) == ("stopped", {})
    assert "another generation" in (done.reason or "")


@pytest.mark.parametrize("way", WAYS)
async def test_a_store_in_use_has_no_mismatch(migration: Migration, way: Way) -> None:
    await in_redis(migration, rows=300, percent=50)
    over = asyncio.Event()
    hosts = [migration.host(Flag(True, 100)), migration.host(Flag(True, 30)), migration.host(Flag(False, 0))]
    changes = 0

    async def load(seed: int) -> None:
        nonlocal changes
        draw = random.Random(seed)  # noqa: S311 - no secret
        while not over.is_set():
            client, name = draw.choice(hosts).repository, f"s{draw.randrange(1, 301)}"
            with suppress(StoreUnavailableError, SessionNotFoundError):
                match draw.randrange(8):
                    case 0:
                        await client.create(NewSession(user_id="ann", data={"k": seed}))
                    case 1:
                        await client.delete(f"s{draw.randrange(250, 301)}")
                    case _:
                        await client.update(name, changes={"k": draw.randrange(1_000)})
                changes += 1
            await asyncio.sleep(0.002)

    running = [asyncio.ensure_future(load(seed)) for seed in range(6)]
    looked: list[Validated] = []
    another = migration.host()
    try:
        while len(looked) < 4 or changes < 400 or (len(looked) < 40 and not any(done.lag for done in looked)):
            validator = migration.validator(another, pauses=(0.02, 0.2, 0.8, 2.5))
            looked.append(await validator.run(way, sample=200))
    finally:
        over.set()
        await asyncio.gather(*running)

    assert [found(done) for done in looked] == [{}] * len(looked)
    assert sum(done.lag for done in looked) > 0, "nothing was under way"
    assert (await migration.validator().run("full")).agree


@pytest.mark.parametrize("way", ["full", "digest"])
async def test_one_that_is_killed_is_gone_on_with(migration: Migration, way: Way, tmp_path: Path) -> None:
    await in_redis(migration, rows=600)
    await plant(migration)
    keep, killed, left = tmp_path / "validation", 0, 0

    async def dies(step: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise CrashError(step)

    while killed < 50:
        left = 4
        validator = migration.validator(keep=keep, before=dies, again=0.0)
        validator._throttle.batch = 60
        try:
            done = await validator.run(way)
        except CrashError:
            killed += 1
            continue
        break

    assert killed >= 3
    assert done.resumed
    assert found(done) == PLANTED
    assert done.rows == 599
    assert not keep.exists()


async def test_a_file_of_something_else_is_refused_and_of_another_generation_left(
    migration: Migration, tmp_path: Path
) -> None:
    await in_redis(migration, rows=10)
    keep = tmp_path / "validation"
    keep.write_text("no")
    with pytest.raises(PreconditionError, match="not of a validation"):
        await migration.validator(keep=keep).run("full")
    assert keep.read_text() == "no"


async def test_a_repair_makes_the_steps_of_the_protocol_and_leaves_the_rest_to_a_person(migration: Migration) -> None:
    await in_redis(migration)
    await plant(migration)
    validator = migration.validator()
    done = await validator.run("full")

    repaired = await validator.repair()
    after = await migration.validator().run("full")

    assert found(done) == PLANTED
    assert sorted(repaired) == sorted(REPAIRABLE)
    assert found(after) == BY_HAND
    client = migration.host().repository
    assert (await client.get("s10")) is not None
    assert (await client.get("s12")) is None
    session = await client.get("s13")
    assert session is not None
    assert session.data["secret"] == SECRET
