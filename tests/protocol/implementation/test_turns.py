"""The guards of the turns between the modes: the generation key, the control row, and what a host makes of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from session_ops.errors import RevisionConflictError, StoreUnavailableError, UnfinishedError
from session_ops.migration.turning import Turning, persistence_flaw
from session_ops.records import NewSession
from tests.owned import as_administrator, connection_to
from tests.protocol.implementation.rig import LONG, OFF, ON, Fleet

LEASE = 0.4


async def key(fleet: Fleet) -> bytes | None:
    found: bytes | None = await as_administrator(fleet.redis, "GET", f"generation:{fleet.generation.prefix}:{{0}}")
    return found


async def started(fleet: Fleet) -> None:
    """Start it again, and wait until it has read its file."""
    fleet.redis.start()
    while True:
        with suppress(StoreUnavailableError):
            await as_administrator(fleet.redis, "GET", "anything")
            return
        await asyncio.sleep(0.02)


def turning(fleet: Fleet) -> Turning:
    return Turning(fleet.by_hand.store, lease=LONG, patience=0.3, on_disk=0.0)


async def test_the_key_turns_by_way_of_hold_and_says_what_it_was(fleet: Fleet) -> None:
    redis = fleet.generation.repository
    assert await redis.change_mode("mirror", "hold")
    assert not await redis.change_mode("mirror", "hold"), "it is there already"
    assert await redis.change_mode("hold", "final")
    assert await key(fleet) == b"final"
    assert await redis.change_mode("final", "hold")
    assert await redis.change_mode("hold", "mirror")


@pytest.mark.parametrize(
    ("before", "after"), [("mirror", "final"), ("final", "mirror"), ("hold", "hold"), ("x", "hold")]
)
async def test_no_other_way_is_taken(fleet: Fleet, before: str, after: str) -> None:
    with pytest.raises(StoreUnavailableError):
        await fleet.generation.repository.change_mode(before, after)
    assert await key(fleet) == b"mirror"


async def test_a_key_in_another_mode_is_left_alone(fleet: Fleet) -> None:
    with pytest.raises(StoreUnavailableError, match="wrong mode"):
        await fleet.generation.repository.change_mode("hold", "final")
    assert await key(fleet) == b"mirror"


async def test_a_lost_key_is_never_written_again(fleet: Fleet) -> None:
    await as_administrator(fleet.redis, "FLUSHALL")
    with pytest.raises(StoreUnavailableError):
        await fleet.generation.repository.change_mode("mirror", "hold")
    assert await key(fleet) is None


@pytest.mark.parametrize("final", [False, True])
async def test_the_key_turns_on_the_pinned_server_alone(mortal: Fleet, *, final: bool) -> None:
    if final:
        await mortal.mode(control="final", key="final")
    control = await mortal.steps.control()
    await asyncio.sleep(1.2)
    mortal.redis.stop()
    await started(mortal)
    redis = mortal.by_hand.store.redis_at(connection_to(mortal.address), control)
    with pytest.raises(StoreUnavailableError, match="not the primary"):
        await redis.repository.change_mode("final" if final else "mirror", "hold")
    assert await key(mortal) == (b"final" if final else b"mirror")


async def test_the_control_row_turns_in_the_generation_and_mode_that_were_seen(fleet: Fleet) -> None:
    turn = turning(fleet)
    seen = await turn.look()
    with pytest.raises(UnfinishedError):
        await turn.row(seen, "hold", "final")
    await fleet.sql("UPDATE session_control SET closing = 'token'")
    with pytest.raises(UnfinishedError, match="a bump is under way"):
        await turn.row(seen, "mirror", "hold")
    await fleet.sql("UPDATE session_control SET closing = NULL")
    await fleet.bump()
    with pytest.raises(UnfinishedError, match="generation 2"):
        await turn.row(seen, "mirror", "hold")
    with pytest.raises(UnfinishedError, match="generation 2 has begun"):
        await turn.key(seen, "mirror", "hold")
    assert (await turn.look()).mode == "mirror"


async def test_only_a_final_control_row_is_given_another_pin(fleet: Fleet) -> None:
    store = fleet.by_hand.store.control_store
    assert not await store.pin(1, "0" * 40)
    await fleet.mode(control="final")
    assert not await store.pin(2, "0" * 40)
    assert await store.pin(1, "0" * 40)


async def test_a_host_that_does_not_show_the_mode_is_named(fleet: Fleet) -> None:
    host = fleet.host(ON, lease=LONG)
    turn = turning(fleet)
    seen = await turn.look()
    await host.join()
    await asyncio.sleep(0.3)
    await host.leave()
    await turn.hosts(seen, "hold")  # a host that has ended is not waited for
    columns = "host, pid, use_redis, percent, started_at, seen_at, generation, mode, detail"
    await fleet.sql(
        f"INSERT INTO session_hosts ({columns}) VALUES ('app7', 7, TRUE, 100, 0, {2**60}, 1, 'mirror', 'p')"
    )
    with pytest.raises(UnfinishedError, match="app7 has not seen mode hold"):
        await turn.hosts(seen, "hold")
    await fleet.sql("UPDATE session_hosts SET mode = 'hold'")
    await turn.hosts(seen, "hold")
    with pytest.raises(UnfinishedError, match="app7"):
        await turn.hosts(seen, "hold", "another")
    await turn.hosts(seen, "hold", "p")


async def test_a_turn_counts_once_it_is_on_disk(mortal: Fleet) -> None:
    turn = Turning(mortal.by_hand.store, lease=LONG, on_disk=1.5)
    seen = await turn.look()
    await turn.key(seen, "mirror", "hold")
    mortal.redis.kill()
    await started(mortal)
    assert await key(mortal) == b"hold"
    await as_administrator(mortal.redis, "CONFIG", "SET", "appendonly", "no")
    await mortal.bump()
    with pytest.raises(StoreUnavailableError, match="cannot persist"):
        await turn.key(await turn.look(), "mirror", "hold")


def test_a_redis_that_keeps_no_file_is_told_of() -> None:
    assert "appendonly yes" in (persistence_flaw({"aof_enabled": "0"}) or "")
    assert "its log" in (persistence_flaw({"aof_enabled": "1", "aof_last_write_status": "err"}) or "")
    assert persistence_flaw({"aof_enabled": "1", "aof_last_write_status": "ok"}) is None


async def way_back(fleet: Fleet) -> str:
    """A session that is in Redis alone, and the key back at hold; its id."""
    await fleet.mode(control="final", key="final")
    await fleet.steps.control()
    session = await (await fleet.looked(ON)).repository.create(NewSession(user_id="ann", data={"step": 1}))
    await fleet.mode(key="hold")
    return session.id


async def test_on_the_way_back_lists_and_counts_are_still_redis(fleet: Fleet) -> None:
    session_id = await way_back(fleet)
    host = await fleet.looked(ON)
    page = await host.repository.list_sessions(user_id="ann")
    assert [session.id for session in page.sessions] == [session_id]
    assert await host.repository.count_active() == 1
    assert (await host.repository.statistics()).active == 1
    assert await host.repository.lead("cleanup", "one", 5)


async def test_once_the_key_says_mirror_lists_are_the_legacy_stores(fleet: Fleet) -> None:
    session_id = await way_back(fleet)
    host = await fleet.looked(ON)
    await host.repository.update(session_id, changes={"step": 2})
    await fleet.mode(key="mirror")
    page = await host.repository.list_sessions(user_id="ann")
    assert [session.id for session in page.sessions] == [session_id]
    assert await host.repository.count_active() == 1


async def test_on_the_way_back_a_session_is_born_with_its_row(fleet: Fleet) -> None:
    await way_back(fleet)
    for flag in (ON, OFF):
        session = await (await fleet.looked(flag)).repository.create(NewSession(user_id="bob"))
        row = await fleet.row(session.id)
        assert (row.owner, row.generation) == ("redis", 1)


async def test_on_the_way_back_each_end_of_a_user_reaches_its_row(fleet: Fleet) -> None:
    session_id = await way_back(fleet)
    host = await fleet.looked(ON)
    await host.repository.update(session_id, changes={"step": 2})
    assert await host.repository.delete_user("ann") == 1
    assert (await fleet.row(session_id)).deleted


async def test_a_host_that_still_believes_in_final_needs_the_lease_again(fleet: Fleet) -> None:
    await fleet.mode(control="final", key="final")
    host = await fleet.looked(ON, lease=LEASE)
    session = await host.repository.create(NewSession(user_id="ann", data={"step": 1}))
    await asyncio.sleep(LEASE)
    assert await host.repository.get(session.id), "final needs no lease"
    with pytest.raises(RevisionConflictError):
        await host.repository.update(session.id, changes={"step": 2}, expected_revision="00" * 8)
    generation = host.store.generations.current
    assert generation is not None
    await fleet.mode(key="hold")
    await fleet.mode(key="mirror")
    # The way back has ended, and a bump after it: this host has slept through both
    sent = host.store.steps.get
    looks = []

    async def counted(session_id: str) -> object:
        looks.append(session_id)
        return await sent(session_id)

    host.store.steps.get = counted  # type: ignore[method-assign]
    await host.repository.update(session.id, changes={"step": 2})
    looks.clear()
    await asyncio.sleep(LEASE)
    found = await host.repository.get(session.id)
    assert found is not None
    assert looks, "an answer in mode mirror counts within the lease alone"
