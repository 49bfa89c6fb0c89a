"""The comparison of both stores finds every way in which they can differ; on a real Redis and a real PostgreSQL."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.chaos.agreement import PAGE, ROWS, Agreement, Stores, compared
from tests.conftest import administrator_connection
from tests.owned import empty_tables, make_tables
from tests.protocol.implementation.rig import OFF, ON, Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.postgresql import PostgreSQLServer
    from tests.servers import RedisServer


@pytest_asyncio.fixture
async def fleet(redis_server: RedisServer, postgresql_server: PostgreSQLServer) -> AsyncIterator[Fleet]:
    """An empty fleet in its first generation."""
    opened = Fleet(redis_server, postgresql_server.url)
    await make_tables(opened.by_hand.store)
    await empty_tables(opened.by_hand.store)
    await opened.open()
    yield opened
    await opened.close()


async def look(fleet: Fleet) -> Stores:
    """Both stores, as the hosts' own clients tell of them."""
    async with fleet.by_hand.store.database.engine.connect() as connection:
        rows = await connection.exec_driver_sql(ROWS)
        told = b"\n".join(row[0] for row in rows).decode()
    administrator = administrator_connection(fleet.redis)
    page = await administrator.call("EVAL", PAGE, 0, 0, fleet.generation.prefix)
    await administrator.close()
    assert page[0] == b"0", "these few fit on one page"
    return compared(told, b"\n".join(page[1:]).decode(), int(time.time() * 1000))


async def test_stores_that_agree_do_so_to_the_last_part_of_a_session(fleet: Fleet) -> None:
    host = await fleet.looked(ON)
    ids = {await fleet.born(ON, agent_id="Zoë", ttl=7200) for _ in range(3)}
    for session_id in ids:
        await host.repository.update(session_id, changes={"nested": {"ünïcode": [1.5, None, ""]}}, remove=["step"])
    moved = await fleet.born(OFF)
    await host.repository.get(moved)
    await host.repository.delete(await fleet.born(ON))
    await fleet.born(OFF)  # the legacy store's own: there is nothing to compare it with
    stores = await look(fleet)
    assert stores.differing() == []
    assert stores.rows.keys() == ids | {moved}


async def break_data(fleet: Fleet, session_id: str) -> None:
    await fleet.sql(f"""UPDATE sessions SET data = '{{"step": 7}}' WHERE id = '{session_id}'""")


async def break_expiry(fleet: Fleet, session_id: str) -> None:
    await fleet.expire(session_id, 90_000)


async def lose_the_mirror(fleet: Fleet, session_id: str) -> None:
    await fleet.written(session_id, 2)


async def lose_the_tombstone(fleet: Fleet, session_id: str) -> None:
    await fleet.generation.kill(session_id, None)


async def lose_the_record(fleet: Fleet, session_id: str) -> None:
    administrator = administrator_connection(fleet.redis)
    await administrator.call("DEL", fleet.key(session_id), change=True)
    await administrator.close()


async def make_a_second_owner(fleet: Fleet, session_id: str) -> None:
    await fleet.sql(f"UPDATE sessions SET owner = 'legacy' WHERE id = '{session_id}'")


@pytest.mark.parametrize(
    "spoil",
    [break_data, break_expiry, lose_the_mirror, lose_the_tombstone, lose_the_record, make_a_second_owner],
)
async def test_a_session_on_which_they_differ_is_found(fleet: Fleet, spoil: Any) -> None:
    spoiled, _ = await fleet.born(ON), await fleet.born(ON)
    await spoil(fleet, spoiled)
    assert (await look(fleet)).differing() == [spoiled]


def test_a_difference_that_lasts_is_a_problem_and_so_is_one_that_no_failure_explains() -> None:
    equal = Agreement(compared=5, unsettled=2, differ=[], digests=("a", "a"))
    assert equal.problems(unanswered=2) == []
    assert equal.problems(unanswered=1) == ["I4: 2 sessions were not mirrored, and 1 requests failed"]
    lasting = Agreement(compared=5, unsettled=1, differ=["abc"], digests=("a", "b"))
    assert lasting.problems(unanswered=9) == [
        "I4: the stores do not agree on abc",
        "I4: the stores differ in 1 of 5 sessions",
    ]
    assert Agreement(compared=0, unsettled=0, differ=[], digests=("", "")).problems(0) == [
        "I4: there was nothing to compare"
    ]
