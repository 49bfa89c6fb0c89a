"""The guards of a bump, and of the generations that it divides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.bump import BumpRefusedError, bump
from tests.owned import as_administrator, load_functions
from tests.protocol.implementation.rig import OFF, ON, Fleet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LEASE = 0.3


async def bumped(
    fleet: Fleet,
    *,
    to_redis: bool = True,
    lost: bool = False,
    at: dict[str, Callable[[], Awaitable[Any]]] | None = None,
) -> str | None:
    """A bump with the wait; `at` says what somebody else does before a step."""

    async def step(name: str) -> None:
        if at and name in at:
            await at[name]()

    store = fleet.by_hand.store.control_store
    target = fleet.by_hand.connection if to_redis else None
    lease = -1.0 if at else LEASE
    seen = await store.read()
    return await bump(
        store, seen, target=target, address=fleet.address, partitions=1, lease=lease, lost=lost, step=step
    )


@pytest.mark.parametrize("forced", [False, True])
async def test_a_bump_waits_for_every_lease(fleet: Fleet, forced: bool) -> None:
    host = await fleet.looked(ON, lease=LEASE)
    assert host.store.control.leased(1)
    # What is rolled back by force is called lost, and may live for some host
    await bumped(fleet, to_redis=not forced, lost=forced)
    assert not host.store.control.leased(1)


async def test_a_bump_that_was_cancelled_does_not_open(fleet: Fleet) -> None:
    store = fleet.by_hand.store.control_store
    with pytest.raises(BumpRefusedError):
        await bumped(fleet, at={"open": lambda: store.cancel(1)})
    assert (await store.read()).generation == 1


async def test_a_bump_does_not_open_what_another_one_is_closing(fleet: Fleet) -> None:
    store = fleet.by_hand.store.control_store

    async def taken_over() -> None:
        await store.cancel(1)
        await store.close(1, "another's token")

    with pytest.raises(BumpRefusedError):
        await bumped(fleet, at={"open": taken_over})
    assert (await store.read()).generation == 1


async def test_a_cancel_that_names_its_token_leaves_the_closing_of_another_bump(fleet: Fleet) -> None:
    store = fleet.by_hand.store.control_store
    await store.close(1, "another's token")
    assert not await store.cancel(1, "mine")
    assert (await store.read()).closing == "another's token"


async def test_every_try_of_a_bump_has_a_prefix_of_its_own(fleet: Fleet) -> None:
    store = fleet.by_hand.store.control_store
    with pytest.raises(BumpRefusedError):
        await bumped(fleet, at={"open": lambda: store.cancel(1)})
    (left,) = await as_administrator(fleet.redis, "KEYS", "generation:2-*")
    prefix = await bumped(fleet, at={})
    assert left.decode() != f"generation:{prefix}:{{0}}"


async def test_a_generation_never_sees_the_records_of_another(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    for step in (2, 3, 4):
        await fleet.written(session_id, step)
    await fleet.bump()
    assert await fleet.legacy_write(await fleet.row(session_id), 5, 2)
    await fleet.bump()  # to the same server
    host = await fleet.looked(ON)
    found = await host.repository.get(session_id)
    assert found is not None
    assert found.data == {"step": 5}
    assert host.moves == ["redis"]


async def test_a_bump_gives_every_session_back(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.bump(to_redis=False)
    for flag in (OFF, ON):
        assert await (await fleet.looked(flag)).repository.get(session_id)


async def test_only_the_generation_that_was_seen_is_closed(fleet: Fleet) -> None:
    await fleet.bump()
    store = fleet.by_hand.store.control_store
    assert not await store.close(1, "token")
    assert (await store.read()).closing is None


async def test_final_cannot_be_closed(fleet: Fleet) -> None:
    await fleet.mode(control="final")
    with pytest.raises(BumpRefusedError):
        await bumped(fleet, at={})


async def test_final_cannot_be_opened_over(fleet: Fleet) -> None:
    with pytest.raises(BumpRefusedError):
        await bumped(fleet, at={"open": lambda: fleet.mode(control="final")})
    assert (await fleet.by_hand.store.control_store.read()).generation == 1


async def test_a_host_leaves_a_bump_alone_that_another_has_just_begun(fleet: Fleet) -> None:
    store = fleet.by_hand.store.control_store
    await store.close(1, "another's token")
    assert not await store.close(1, "mine", stale=2 * LEASE)
    await asyncio.sleep(2 * LEASE + 0.05)
    assert await store.close(1, "mine", stale=2 * LEASE)


async def test_an_empty_start_without_the_library_opens_nothing(mortal: Fleet) -> None:
    await as_administrator(mortal.redis, "FUNCTION", "FLUSH")
    with pytest.raises(Exception, match="redis"):
        await mortal.bump()
    assert (await mortal.by_hand.store.control_store.read()).closing is None
    await load_functions(mortal.redis)
    await mortal.bump()
