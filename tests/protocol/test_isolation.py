"""READ COMMITTED under two hosts whose statements collide all the time: nothing deadlocks, nothing is lost."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from session_ops.errors import StoreUnavailableError
from session_ops.records import NewSession
from session_ops.stores.legacy_writes import draw_revision
from tests.owned import OFF, ON
from tests.protocol.test_batches import deadlocks

if TYPE_CHECKING:
    from tests.protocol.conftest import OpenFleet


async def test_of_two_changes_of_the_same_version_one_wins(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet()
    for host in fleet.hosts:
        host.flag = OFF
    one, two = (host.store.steps for host in fleet.hosts)
    await fleet.hosts[0].repository.create(NewSession(id="race", user_id="ann", data={}))
    for number in range(300):
        seen = (await one.get("race")).row
        assert seen is not None
        written = await asyncio.gather(
            *[steps.write(seen, 1, data=f'{{"k": {number}}}', revision=draw_revision()) for steps in (one, two)],
            one.end(seen, 1) if number == 299 else one.touch(seen, 1),
        )
        assert sum(each not in (None, False) for each in written) == 1


async def test_thousands_of_colliding_statements_lose_no_update(open_fleet: OpenFleet) -> None:
    fleet = await open_fleet(hosts=2)
    before = await deadlocks(fleet)
    chance = random.Random(5)  # noqa: S311 - it decides which session is changed
    ids = [f"collide{number}" for number in range(6)]
    for session_id in ids:
        await fleet.client(fleet.hosts[0], "first").create(NewSession(id=session_id, user_id="ann", data={}))
    mine: dict[tuple[str, str], int] = {}
    versions: dict[str, list[int]] = {session_id: [] for session_id in ids}
    done = 0

    async def work(number: int) -> None:
        nonlocal done
        host = fleet.hosts[number % 2]
        client = fleet.client(host, f"client{number}")
        for value in range(1, 61):
            host.flag = ON if chance.random() < 0.5 else OFF
            session_id, name = chance.choice(ids), f"w{number}"
            try:
                session = await client.update(session_id, changes={name: value})
            except StoreUnavailableError as error:
                assert error.reason == "collision"  # noqa: PT017 - most calls do not fail
                continue
            done += 1
            mine[session_id, name] = value
            versions[session_id].append(session.version)

    await asyncio.gather(*map(work, range(16)))
    assert done > 800
    assert await deadlocks(fleet) == before
    for session_id in ids:
        assert len(set(versions[session_id])) == len(versions[session_id]), "one version was given to two changes"
        session = await fleet.client(fleet.hosts[0], "last").get(session_id)
        assert session is not None
        expected = {name: value for (at, name), value in mine.items() if at == session_id}
        assert {name: session.data[name] for name in expected} == expected
