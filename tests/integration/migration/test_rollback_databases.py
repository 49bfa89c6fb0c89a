"""The rollback on both databases: home by moves, home by force, and neither takes longer for more sessions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from session_ops.errors import UnfinishedError
from session_ops.migration.audit import Audit
from session_ops.migration.rollback import Rollback
from session_ops.migration.stages import Stages

if TYPE_CHECKING:
    from session_ops.migration.mover import Mover
    from tests.integration.migration.moving import Migration

LEASE = 1.0


async def nothing_is_held() -> bool:
    return False


def rollback(migration: Migration) -> Rollback:
    store = migration.store
    who = "ann@here"
    return Rollback(
        store,
        migration.runs(f"{who}:1"),
        migration.mover()._moves,
        Stages(store.database, store.control_schema, who),
        Audit(store.database, store.control_schema, who),
        abandon=nothing_is_held,
        lease=LEASE,
        address=migration.address,
    )


async def test_every_session_goes_home_and_a_mover_that_is_stopped_is_gone_on_with(migration: Migration) -> None:
    await migration.open(rows=300)
    await migration.want(100)
    await migration.move()
    work = rollback(migration)

    def stopped() -> Mover:
        mover = migration.mover()
        mover.stop("interrupted")
        return mover

    with pytest.raises(UnfinishedError, match="interrupted"):
        await work.home(stopped, migration.validator)
    done = await work.home(migration.mover, migration.validator)

    assert (done.moved, await migration.owners()) == (300, {"legacy": 300})
    assert done.validated is not None
    assert done.validated.agree
    steps = await migration.sql("SELECT step, state, facts FROM session_steps")
    assert [tuple(row) for row in steps] == [("rollback", "reached", '{"moved":300}')]
    again = await work.home(migration.mover, migration.validator)
    assert (again.changed, again.moved) == (False, 0)


async def test_by_force_it_takes_the_lease_and_a_second_however_many_there_are(migration: Migration) -> None:
    await migration.open(rows=20_000)
    await migration.want(100)
    async with migration.application.unguarded() as connection:
        await connection.exec_driver_sql(f"UPDATE {migration.application.table} SET owner = 'redis', generation = 1")
    assert await migration.owners() == {"redis": 20_000}

    began = time.monotonic()
    done = await rollback(migration).force()
    took = time.monotonic() - began

    assert (done.changed, done.generation, await migration.owners()) == (True, 2, {"legacy": 20_000})
    assert LEASE + 1 <= took < LEASE + 4
    assert not (await rollback(migration).force()).changed
