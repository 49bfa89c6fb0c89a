"""Cleanup, and the ends of sessions that the agent manager hears of at least once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_ops.records import Ended, NewSession, Session

if TYPE_CHECKING:
    from session_ops.stores.contract import SessionRepository
    from tests.contract.backends import Backend


async def test_a_deleted_session_is_given_out_with_its_owners(repository: SessionRepository, session: Session) -> None:
    await repository.delete(session.id)

    [ended] = await repository.clean(10)

    assert (ended.id, ended.user_id, ended.agent_id, ended.cause) == (session.id, "ann", "helper", "deleted")
    assert session.created_at <= ended.ended_at < session.expires_at


async def test_an_expired_session_is_given_out_with_its_expiry(backend: Backend) -> None:
    repository = backend.repository(ttl=60)
    session = await repository.create(NewSession(user_id="ann"))
    await backend.pass_time(session.id, 61)

    ended = await repository.clean(10)

    assert ended == [
        Ended(id=session.id, user_id="ann", agent_id=None, cause="expired", ended_at=session.expires_at - 61_000)
    ]


async def test_a_live_session_is_never_given_out(repository: SessionRepository, session: Session) -> None:
    assert await repository.clean(10) == []
    assert await repository.get(session.id) == session


async def test_an_end_is_given_out_until_it_is_confirmed(repository: SessionRepository, session: Session) -> None:
    await repository.delete(session.id)

    first = await repository.clean(10)
    second = await repository.clean(10)
    await repository.told(second)

    assert first == second
    assert len(first) == 1
    assert await repository.clean(10) == []


async def test_what_is_refused_holds_up_no_others(repository: SessionRepository) -> None:
    made = [await repository.create(NewSession(user_id="ann")) for _ in range(9)]
    for session in made:
        await repository.delete(session.id)

    given = {ended.id for _ in range(5) for ended in await repository.clean(2)}

    assert given == {session.id for session in made}


async def test_cleanup_runs_dry(backend: Backend) -> None:
    repository = backend.repository(ttl=60)
    made = [await repository.create(NewSession(user_id="ann", agent_id="helper")) for _ in range(25)]
    for session in made:
        await backend.pass_time(session.id, 61)

    told = 0
    while ended := await repository.clean(10):
        assert len(ended) <= 10
        await repository.told(ended)
        told += len(ended)

    assert told == 25
    assert (await repository.statistics()).expired == 25


async def test_confirming_twice_or_what_was_never_given_is_no_error(
    repository: SessionRepository, session: Session
) -> None:
    await repository.told([])
    await repository.told([Ended(id="x", user_id="ann", agent_id=None, cause="expired", ended_at=1)])
    await repository.delete(session.id)
    ended = await repository.clean(10)

    await repository.told(ended)
    await repository.told(ended)

    assert await repository.clean(10) == []
