"""Redis' indexes and counters change with the record, in the same step: a move leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from session_ops.records import NewSession
from tests.conftest import administrator_connection
from tests.owned import OFF, ON

if TYPE_CHECKING:
    from tests.protocol.conftest import OpenFleet
    from tests.protocol.stateful_fleet import Fleet

# Sessions of these fleets live for less than an hour, so that the expiry index has them from the first day
ALL = {"created:0", "user:ann", "agent:bot", "expiry"}


class Indexes:
    """What the indexes of the generation in force say of a session."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def _call(self, *command: Any) -> Any:
        administrator = administrator_connection(self._fleet.server)
        try:
            return await administrator.call(*command)
        finally:
            await administrator.close()

    async def _name(self, index: str) -> str:
        row = await self._fleet.hosts[0].store.control_store.read()
        return f"sessions:{row.prefix}:{{0}}:{index}"

    async def of(self, session_id: str) -> set[str]:
        """The indexes that it is in."""
        return {each for each in ALL if await self._call("ZSCORE", await self._name(each), session_id) is not None}

    async def counters(self) -> dict[str, int]:
        """The generation's own counters."""
        fields = await self._call("HGETALL", await self._name("stats"))
        return {name.decode(): int(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}


async def test_a_session_is_in_the_indexes_while_redis_owns_it(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    host, indexes = fleet.hosts[0], Indexes(fleet)
    host.flag = OFF
    await host.repository.create(NewSession(id="s", user_id="ann", agent_id="bot"))
    assert await indexes.of("s") == set()
    for moves in (1, 2):
        host.flag = ON
        await host.repository.get("s")
        assert await indexes.of("s") == ALL
        assert await indexes.counters() == {"moved": moves, "filed": 1}
        host.flag = OFF
        await host.repository.get("s")
        assert await indexes.of("s") == set()


async def test_a_repeated_put_or_mark_counts_once(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    host, indexes = fleet.hosts[0], Indexes(fleet)
    await host.repository.create(NewSession(id="s", user_id="ann", agent_id="bot"))
    redis, row = host.store.generations.current, (await host.store.steps.get("s")).row
    assert redis is not None
    assert row is not None
    await redis.put(row)
    assert await indexes.counters() == {"moved": 1, "filed": 1}
    await redis.mark(row)
    await redis.mark(row)
    await redis.put(row)  # late: the marker is newer
    assert await indexes.of("s") == set()
    assert await indexes.counters() == {"moved": 1, "filed": 0}


async def test_a_marker_over_a_session_that_never_arrived_is_in_no_index(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    host, indexes = fleet.hosts[0], Indexes(fleet)
    host.flag = OFF
    await host.repository.create(NewSession(id="s", user_id="ann", agent_id="bot"))
    await host.store.steps.claim("s", 1)
    await host.repository.get("s")
    row = (await host.store.steps.get("s")).row
    assert row is not None
    assert row.owner == "legacy"
    assert await indexes.of("s") == set()


async def test_what_ends_in_redis_leaves_its_indexes_and_is_swept_from_the_last(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    host, indexes = fleet.hosts[0], Indexes(fleet)
    await host.repository.create(NewSession(id="killed", user_id="ann", agent_id="bot"))
    await host.repository.create(NewSession(id="expired", user_id="ann", agent_id="bot", ttl=1))
    await host.repository.create(NewSession(id="alive", user_id="ann", agent_id="bot"))
    await host.repository.delete("killed")
    assert await indexes.of("killed") == {"expiry"}
    assert (await indexes.counters())["deleted"] == 1
    await asyncio.sleep(1.1)
    ended = {end.id for end in await host.repository.clean(100)}
    assert ended == {"killed", "expired"}
    assert await indexes.of("killed") == await indexes.of("expired") == set()
    assert await indexes.of("alive") == ALL
    legacy = await host.repository.statistics()
    assert (legacy.active, legacy.created, legacy.deleted) == (1, 3, 1)
