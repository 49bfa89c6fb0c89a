"""Sessions whose histories were dropped are still looked at: now and then, and all of them at the end."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.ledger.archive import Archive
from tests.ledger.calls import Calls
from tests.ledger.judge import Judge
from tests.ledger.phases import Phases
from tests.ledger.readback import ReadBack
from tests.ledger.sessions import Tracked, User
from tests.ledger.stores import Store
from tests.ledger.wire import Host
from tests.linearizability import Call, Rules


class Bench:
    """A correct store, with what a ledger has behind its load."""

    def __init__(self, store: Store, limit: int = 100) -> None:
        self.store = store
        chance = random.Random(1)  # noqa: S311  (no secret)
        self.archive = Archive(limit, chance)
        self.judge = Judge(Rules())
        self.calls = Calls([Host(url, "token") for url in store.urls], Phases("all", time.monotonic()), chance)
        self.back = ReadBack(self.calls, self.judge, self.archive)

    async def retired(self, *, ended: bool = False) -> Tracked:
        """A session that has lived, was checked, and is kept."""
        tracked = await self.calls.create(User("u", 1), self.calls.hosts[0])
        assert tracked is not None
        await self.calls.change(tracked, self.calls.hosts[1], "merge")
        if ended:
            await self.calls.change(tracked, self.calls.hosts[0], "delete")
        await self.back.retire(tracked)
        assert not self.judge.found
        return tracked

    def kept(self, tracked: Tracked) -> dict[str, Any] | None:
        return next(value for each, value in self.archive if each is tracked)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Store() as store:
        made = Bench(store)
        yield made
        made.judge.close()
        for host in made.calls.hosts:
            host.close()


async def test_what_is_as_it_was_is_confirmed(bench: Bench) -> None:
    for ended in (True, False):
        await bench.retired(ended=ended)
    await bench.back.everything()
    assert (bench.back.confirmed, bench.judge.found) == (2, {})


async def test_a_write_that_is_undone_after_it_was_checked_is_lost(bench: Bench) -> None:
    tracked = await bench.retired()
    bench.store.write(bench.store.sessions[tracked.id], {})
    await bench.back.everything()
    assert (bench.back.confirmed, sum(bench.judge.found.values())) == (0, 1)
    assert "resurrected" not in bench.judge.found


async def test_a_session_that_is_gone_after_it_was_checked_is_lost(bench: Bench) -> None:
    tracked = await bench.retired()
    bench.store.delete(tracked.id)
    await bench.back.everything()
    assert bench.judge.found == {"lost": 1}


async def test_a_session_that_comes_back_after_it_was_checked_is_resurrected(bench: Bench) -> None:
    tracked = await bench.retired(ended=True)
    bench.store.write({"id": tracked.id, "user_id": "u"}, {"a": 1})
    await bench.back.everything()
    assert bench.judge.found == {"resurrected": 1}


async def test_an_audit_finds_it_before_the_end_and_counts_it_once(bench: Bench) -> None:
    tracked = await bench.retired()
    kept = bench.kept(tracked)
    await bench.back.audit(tracked, kept)
    assert not bench.judge.found
    bench.store.delete(tracked.id)
    await bench.back.audit(tracked, kept)
    assert bench.judge.found == {"lost": 1}
    await bench.back.everything()
    assert bench.judge.found == {"lost": 1}


async def test_a_change_of_unknown_outcome_may_show_after_the_history_was_dropped(bench: Bench) -> None:
    tracked = await bench.retired()
    tracked.unknown.append(Call.update({"late": 77}))
    # Retired again, it is kept with what may still come.
    bench.archive.drop(tracked)
    await bench.back.retire(tracked)
    bench.store.merge(bench.store.sessions[tracked.id], {"late": 77})
    await bench.back.everything()
    assert not bench.judge.found
    bench.store.merge(bench.store.sessions[tracked.id], {"late": 78})
    await bench.back.everything()
    assert bench.judge.found


@pytest.mark.parametrize(("dirty", "found"), [(True, {}), (False, {"lost": 1})], ids=["dirty reads", "strict"])
async def test_a_change_of_unknown_outcome_that_was_read_may_be_undone_where_reads_are_dirty(
    bench: Bench, dirty: bool, found: dict[str, int]
) -> None:
    bench.judge.rules = Rules(dirty_reads=dirty)
    tracked = await bench.retired()
    bench.archive.drop(tracked)
    session = bench.store.sessions[tracked.id]
    settled = dict(session)
    change = Call.update({"early": 77})
    tracked.unknown.append(change)
    tracked.history.begin(change, session_id=tracked.id).unknown("503")
    bench.store.merge(session, {"early": 77})
    await bench.back.retire(tracked)
    bench.store.sessions[tracked.id] = settled

    await bench.back.everything()
    assert bench.judge.found == found

    bench.store.merge(bench.store.sessions[tracked.id], {"early": 78})
    await bench.back.everything()
    assert sum(bench.judge.found.values()) > sum(found.values()), "what nobody wrote was taken for the change"


async def test_the_archive_keeps_no_more_than_its_limit() -> None:
    async with Store() as store:
        bench = Bench(store, limit=3)
        for _ in range(6):
            await bench.retired()
        bench.judge.close()
        assert len(bench.archive) == 3
