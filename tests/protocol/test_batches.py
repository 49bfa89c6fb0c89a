"""The mirror's batches: several versions of one session, rows that cannot be written, two hosts over the same rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from session_ops.errors import StoreUnavailableError
from session_ops.records import NewSession, Record, Session

if TYPE_CHECKING:
    from tests.protocol.conftest import OpenFleet
    from tests.protocol.stateful_fleet import Fleet

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
DATABASES = ("postgresql", "sqlite")


async def owned_by_redis(fleet: Fleet, count: int) -> list[Session]:
    """Sessions that Redis owns, in version 1."""
    repository = fleet.hosts[0].repository
    new = [NewSession(id=f"b{number}", user_id="ann", data={"k": 0}) for number in range(count)]
    return await asyncio.gather(*map(repository.create, new))


def version_of(session: Session, version: int, value: object = None) -> Record:
    """What Redis would have of it then."""
    data = {"k": version if value is None else value}
    return Record(state="active", session=msgspec.structs.replace(session, version=version, data=data))


@pytest.mark.parametrize("database", DATABASES)
async def test_of_several_versions_in_one_tick_the_newest_stays(database: str, open_fleet: OpenFleet) -> None:
    fleet = await open_fleet(database)
    one, two = await owned_by_redis(fleet, 2)
    steps = fleet.hosts[0].store.steps
    arriving = [(one, 4), (two, 2), (one, 6), (one, 5), (two, 3), (one, 3)]
    applied = await asyncio.gather(*[steps.apply(version_of(session, version), 1) for session, version in arriving])
    assert applied == [True] * 6
    for session, newest in ((one, 6), (two, 3)):
        row = (await steps.get(session.id)).row
        assert row is not None
        assert (row.session.version, row.session.data) == (newest, {"k": newest})


@pytest.mark.parametrize("database", DATABASES)
async def test_of_a_batch_only_the_rows_of_its_generation_are_written(database: str, open_fleet: OpenFleet) -> None:
    fleet = await open_fleet(database)
    one, two = await owned_by_redis(fleet, 2)
    steps = fleet.hosts[0].store.steps
    applied = await asyncio.gather(
        steps.apply(version_of(one, 5), 1), steps.apply(version_of(two, 5), 0), steps.apply(version_of(two, 4), 1)
    )
    assert list(applied) == [True, False, True]
    row = (await steps.get(two.id)).row
    assert row is not None
    assert row.session.version == 4


async def test_a_row_that_cannot_be_written_fails_alone(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    sessions = await owned_by_redis(fleet, 20)
    steps = fleet.hosts[0].store.steps
    values = ["a\x00b" if number == 7 else number for number in range(20)]  # jsonb holds no NUL
    applied = await asyncio.gather(
        *[steps.apply(version_of(session, 2, value), 1) for session, value in zip(sessions, values, strict=True)],
        return_exceptions=True,
    )
    assert isinstance(applied[7], StoreUnavailableError)
    assert [each for number, each in enumerate(applied) if number != 7] == [True] * 19
    for number, session in enumerate(sessions):
        row = (await steps.get(session.id)).row
        assert row is not None
        assert row.session.version == (1 if number == 7 else 2)


async def deadlocks(fleet: Fleet) -> int:
    """How many PostgreSQL has had to break; the mirror repeats a batch row by row, so that nobody else notices."""
    async with fleet.hosts[0].store.database.engine.connect() as connection:
        await connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
        return int((await connection.exec_driver_sql(DEADLOCKS)).scalar_one())


CROWD = """
INSERT INTO sessions (id, version, owner, generation, user_id, data, created_at, updated_at, revision, expires_at,
  deleted, bucket)
SELECT 'crowd' || n, version, owner, generation, user_id, data, created_at, updated_at, revision, expires_at,
  deleted, bucket FROM sessions, generate_series(1, 20000) AS n WHERE id = 'b0'
"""


async def test_batches_of_two_hosts_over_the_same_rows_do_not_deadlock(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    sessions = await owned_by_redis(fleet, 150)
    async with fleet.hosts[0].store.database.engine.connect() as connection:
        # In a small table PostgreSQL would look at the rows in the order in which they lie there
        await connection.exec_driver_sql(CROWD)
        await connection.exec_driver_sql("ANALYZE sessions")
    newest, before = 80, await deadlocks(fleet)

    async def mirror(host: int, start: int) -> None:
        steps = fleet.hosts[host].store.steps
        for version in range(start, newest + 1, 2):
            # The hosts bring the rows in opposite orders
            await asyncio.gather(
                *[steps.apply(version_of(session, version), 1) for session in sessions[:: 1 if host else -1]]
            )

    await asyncio.gather(mirror(0, 2), mirror(1, 3))
    assert await deadlocks(fleet) == before
    for session in sessions[::10]:
        row = (await fleet.hosts[0].store.steps.get(session.id)).row
        assert row is not None
        assert (row.session.version, row.session.data) == (newest, {"k": newest})
