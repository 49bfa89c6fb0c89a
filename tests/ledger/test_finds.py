"""The ledger finds every store that is wrong, and says in which way."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger import stores
from tests.ledger.ledger import Ledger
from tests.ledger.sessions import Existing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ledger.report import Report

SECONDS = 1.5
PATIENCE = 15.0


async def run_until(store: stores.Store, enough: Callable[[Report], bool], **settings: Any) -> Report:
    """Run until enough was seen: on a busy machine that takes its time."""
    ledger = Ledger(store.urls, "token", rate=500, seed=7, patience=5, **settings)
    await ledger.start()
    limit = time.monotonic() + PATIENCE
    while not enough(ledger.report()) and time.monotonic() < limit:
        await ledger.hold(0.1)
    await ledger.stop()
    return ledger.report()


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (stores.LosesWrites, "lost"),
        (stores.Revives, "resurrected"),
        (stores.AnswersStale, "stale"),
        (stores.MergesWhole, "lost"),
        (stores.RevokesAllButOne, "resurrected"),
        (stores.ForgetsOldSessions, "lost"),
    ],
)
async def test_a_broken_store_is_found(broken: type[stores.Store], kind: str) -> None:
    async with broken() as store:
        report = await run_until(store, lambda report: kind in report.found)
    assert not report.ok
    assert report.found.get(kind, 0) > 0, report.table()
    assert report.stories


async def test_writes_that_are_lost_while_nobody_looks_are_found_by_the_reading_back() -> None:
    async with stores.LosesLastWrites() as store:
        ledger = Ledger(store.urls, "token", rate=500, seed=7, patience=5)
        await ledger.start()
        await asyncio.sleep(SECONDS)
        store.lose_a_second()
        await ledger.stop()
    assert ledger.report().lost > 0, ledger.report().table()


async def test_a_correct_store_passes() -> None:
    kinds = {"create", "read", "touch", "list", "merge", "replace", "delete", "revoke"}
    async with stores.Store() as store:
        report = await run_until(store, lambda report: kinds < set(report.whole["silence"]) and report.checked > 20)
    assert report.ok, report.table()
    assert not report.whole["failed"], report.table()
    assert report.confirmed > 20
    assert kinds < set(report.whole["silence"])


async def test_a_correct_store_passes_whatever_fails() -> None:
    trouble = stores.Trouble(refused=0.05, unknown=0.03, broken=0.03, hanging=0.005)
    reasons = {"store-unavailable", "outcome-unknown", "connection broken", "timeout"}
    async with stores.Store(trouble=trouble) as store:
        report = await run_until(
            store, lambda report: reasons <= set(report.whole["failed"]) and report.checked > 50, timeout=0.5
        )
    assert report.ok, report.table()
    assert reasons <= set(report.whole["failed"])


async def test_what_no_host_answers_at_the_end_is_no_pass() -> None:
    async with stores.Store() as store:
        ledger = Ledger(store.urls, "token", rate=300, patience=0.5)
        await ledger.start()
        await asyncio.sleep(0.5)
        store.down = True
        await ledger.stop()
    assert not ledger.report().ok
    assert ledger.report().unread > 0


async def test_a_silence_counts_in_the_phase_in_which_it_began() -> None:
    async with stores.Store() as store:
        ledger = Ledger(store.urls, "token", rate=300)
        await ledger.start()
        await asyncio.sleep(0.5)
        ledger.mark("fault injected: down")
        store.down = True
        await asyncio.sleep(0.6)
        ledger.mark("fault healed: down")
        await asyncio.sleep(0.2)
        store.down = False
        await asyncio.sleep(0.5)
        await ledger.stop()
    report = ledger.report()
    _, fault, healed, _ = report.phases
    assert report.ok, report.table()
    # The store is down for 0.6 s of the one phase and 0.2 s of the other; a busy machine adds to both.
    assert fault["silence"]["overall"] >= 0.65
    assert fault["silence"]["one session"] >= 0.65
    assert 0.2 <= healed["silence"]["overall"] <= fault["silence"]["overall"] - 0.4
    assert fault["failed"]["store-unavailable"] > 20


def existing(store: stores.Store, users: int = 20) -> list[Existing]:
    """Users of before the run, two sessions each, as the store has them and the ledger is told."""
    made = []
    for number in range(users):
        sessions = {f"old-{number}-{each}": {"n": number, "each": each} for each in range(2)}
        made.append(Existing(f"before-{number}", sessions))
        for session_id, data in sessions.items():
            store.sessions[session_id] = {
                "id": session_id,
                "user_id": f"before-{number}",
                "data": data,
                "revision": "r",
            }
    return made


async def test_sessions_of_before_the_run_are_used_changed_and_ended_like_others() -> None:
    async with stores.Store() as store:
        told = existing(store)
        before = {each: dict(store.sessions[each]["data"]) for user in told for each in user.sessions}
        ledger = Ledger(store.urls, "token", rate=500, seed=7, patience=5, existing=told)
        await ledger.start()
        limit = time.monotonic() + PATIENCE
        while (ledger.report().checked < 80 or len(ledger.adopted) < 40) and time.monotonic() < limit:
            await ledger.hold(0.1)
        await ledger.stop()
    assert ledger.report().ok, ledger.report().table()
    assert ledger.adopted == set(before)
    changed = [each for each in before if each not in store.sessions or store.sessions[each]["data"] != before[each]]
    assert len(changed) > 20


async def test_a_session_of_before_the_run_that_is_not_as_it_was_is_found() -> None:
    async with stores.Store() as store:
        told = existing(store)
        del store.sessions["old-0-0"]
        store.sessions["old-1-0"]["data"] = {"n": 1, "each": "another's"}
        ledger = Ledger(store.urls, "token", rate=500, seed=7, patience=5, existing=told)
        await ledger.start()
        limit = time.monotonic() + PATIENCE
        while len(ledger.adopted) < 4 and time.monotonic() < limit:
            await ledger.hold(0.1)
        await ledger.stop()
    assert ledger.report().lost == 2, ledger.report().table()
