"""The guards that obey the mode: in the control row, and in the generation key as every answer carries it."""

from __future__ import annotations

import pytest

from session_ops.errors import OutcomeUnknownError, StoreUnavailableError
from session_ops.records import NewSession
from tests.owned import as_administrator
from tests.protocol.implementation.rig import OFF, ON, Fleet


async def test_mark_is_refused_in_mode_hold(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.mode(key="hold")
    assert await fleet.generation.mark(await fleet.row(session_id)) is None
    assert await fleet.generation.read(session_id)


async def test_redis_creates_in_mode_final_alone(fleet: Fleet) -> None:
    with pytest.raises(StoreUnavailableError):
        await fleet.generation.repository.create(NewSession(user_id="ann", id="new"))
    assert await as_administrator(fleet.redis, "EXISTS", fleet.key("new")) == 0


async def test_a_row_is_not_trusted_in_mode_final(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.mode(control="final", key="final")
    await fleet.steps.control()
    final = await fleet.looked(OFF)
    await final.repository.update(session_id, changes={"step": 2})
    assert (await fleet.row(session_id)).session.data == {"step": 1}, "nothing is mirrored"
    found = await (await fleet.looked(OFF)).repository.get(session_id)
    assert found is not None
    assert found.data == {"step": 2}
    created = await final.repository.create(NewSession(user_id="ann"))
    assert await (await fleet.looked(OFF)).repository.get(created.id), "it has no row"


async def test_a_write_is_mirrored_by_the_mode_that_redis_answers(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.mode(control="final", key="final")
    host = await fleet.looked(ON)
    await fleet.mode(key="hold")  # the way back has begun, and this host has not seen it
    await host.repository.update(session_id, changes={"step": 2})
    assert (await fleet.row(session_id)).session.data == {"step": 2}


async def test_a_delete_is_mirrored_by_the_mode_that_redis_answers(fleet: Fleet) -> None:
    session_id = await fleet.born(ON)
    await fleet.mode(control="final", key="final")
    host = await fleet.looked(ON)
    await fleet.mode(key="hold")
    assert await host.repository.delete(session_id)
    assert (await fleet.row(session_id)).deleted


async def test_a_create_in_mode_hold_is_born_in_redis_whatever_the_flag_says(fleet: Fleet) -> None:
    await fleet.mode(control="hold", key="hold")
    host = await fleet.looked(OFF)
    session = await host.repository.create(NewSession(user_id="ann"))
    assert (await fleet.row(session.id)).owner == "redis"


async def test_a_generation_is_not_opened_over_another_mode(fleet: Fleet) -> None:
    await fleet.mode(key="final")
    with pytest.raises((StoreUnavailableError, OutcomeUnknownError)):
        await fleet.generation.repository.open_mirrored()
