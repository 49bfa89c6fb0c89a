"""A user that settles is asked for nothing but reads, so its changes are silent no longer."""

from __future__ import annotations

import asyncio
import random
import time

from tests.ledger.archive import Archive
from tests.ledger.calls import Calls
from tests.ledger.judge import Judge
from tests.ledger.load import Load
from tests.ledger.phases import ONE_SESSION, Phases
from tests.ledger.readback import ReadBack
from tests.ledger.sessions import User
from tests.ledger.stores import Store
from tests.ledger.wire import Host
from tests.linearizability import Rules


async def test_a_silence_of_changes_ends_where_nobody_asks_for_them_any_more() -> None:
    chance, phases, judge = random.Random(1), Phases("all", time.monotonic()), Judge(Rules())  # noqa: S311  (no secret)
    async with Store() as store:
        calls = Calls([Host(store.urls[0], "token")], phases, chance)
        archive = Archive(10, chance)
        load = Load(calls, ReadBack(calls, judge, archive), archive, chance, rate=1, name="u")
        user = User("u-1", 1)
        load._users.append(user)
        async with load._tasks:
            await load._create(user)
            (tracked,) = user.sessions
            store.down = True
            asked = time.monotonic()
            await calls.change(tracked, calls.hosts[0], "merge")
            await asyncio.sleep(1.5)
            settled = time.monotonic()
            load._settle(user)
            await asyncio.sleep(0.4)
            store.down = False
        judge.close()
        calls.hosts[0].close()
    assert len(archive) == 1
    assert settled - asked - 0.1 <= phases.whole.silence[ONE_SESSION] <= settled - asked + 0.1


async def test_a_request_that_one_host_has_refused_goes_to_another_one_next() -> None:
    chance, phases = random.Random(1), Phases("all", time.monotonic())  # noqa: S311  (no secret)
    async with Store() as store:
        first, second = [Host(url, "token") for url in store.urls[:2]]
        calls = Calls([first, second], phases, chance)
        tracked = await calls.create(User("u-1", 1), first)
        assert tracked is not None
        assert {calls.host_for(tracked) for _ in range(50)} == {first, second}
        store.down = True
        await calls.read(tracked, first)
        assert {calls.host_for(tracked) for _ in range(50)} == {second}
        store.down = False
        await calls.read(tracked, second)
        assert {calls.host_for(tracked) for _ in range(50)} == {first, second}
        first.close()
        second.close()
