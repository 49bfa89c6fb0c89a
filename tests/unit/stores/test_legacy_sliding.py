"""Touches behind reads in SQL: where they are due, one per session, never in anybody's way."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec import structs

from session_ops.errors import SessionNotFoundError, StoreUnavailableError
from session_ops.records import Session
from session_ops.stores import legacy_sliding
from session_ops.stores.expiry import slide
from session_ops.stores.legacy_sliding import LegacySliding

TTL = 1_000


def session(session_id: str = "s", *, used_ago: int = 100, ttl: int | None = None) -> Session:
    """A session that was last used so many seconds ago."""
    now = time.time_ns() // 1_000_000
    return Session(
        id=session_id,
        user_id="ann",
        agent_id=None,
        data={},
        created_at=now - used_ago * 1000,
        updated_at=now - used_ago * 1000,
        expires_at=now + ((ttl or TTL) - used_ago) * 1000,
        revision="0" * 16,
        version=1,
        ttl=ttl,
    )


class Store:
    """Counts the touches; `error` is what each of them raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.touched: list[str] = []
        self._error = error

    async def touch(self, session_id: str) -> Session:
        self.touched.append(session_id)
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        return session(session_id)


@pytest.mark.parametrize(
    ("used_ago", "ttl", "due"),
    [(100, None, True), (TTL + 1, None, False), (100, 200, True), (201, 200, False), (100, 10_000, True)],
)
async def test_a_touch_is_sent_where_the_expiry_would_move(used_ago: int, ttl: int | None, *, due: bool) -> None:
    sliding = LegacySliding(Store().touch, ttl=TTL, max_lifetime=0)

    assert sliding.touch(session(used_ago=used_ago, ttl=ttl)) is due
    await asyncio.sleep(0.01)


async def test_no_touch_is_sent_within_the_step() -> None:
    sliding = LegacySliding(Store().touch, ttl=TTL, max_lifetime=0)
    read = session()
    slid = structs.replace(read, expires_at=slide(read.created_at + 100_000, read.created_at, TTL, 0) + 50_000)

    assert sliding.touch(slid) is False


async def test_no_touch_is_sent_at_the_end_of_the_maximum_lifetime() -> None:
    read = session(used_ago=100)
    sliding = LegacySliding(Store().touch, ttl=TTL, max_lifetime=TTL)

    assert sliding.touch(read) is False


@pytest.mark.parametrize("error", [StoreUnavailableError("legacy", "unreachable"), SessionNotFoundError("gone")])
async def test_a_touch_that_fails_is_counted_and_due_again(error: Exception) -> None:
    store = Store(error)
    sliding = LegacySliding(store.touch, ttl=TTL, max_lifetime=0)

    assert [sliding.touch(session()), sliding.touch(session())] == [True, False]
    await asyncio.sleep(0.01)

    assert (sliding.failures, store.touched) == (1, ["s"])
    assert sliding.touch(session()) is True


async def test_touches_take_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_sliding, "_AT_ONCE", 3)
    store = Store()
    sliding = LegacySliding(store.touch, ttl=TTL, max_lifetime=0)

    assert [sliding.touch(session(name)) for name in "abcde"] == [True, True, True, False, False]
    await asyncio.sleep(0.01)
    assert sliding.touch(session("d")) is True
