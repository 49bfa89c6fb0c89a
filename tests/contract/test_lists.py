"""Lists, counts and statistics."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal

import pytest

from session_ops.errors import InvalidSessionError
from session_ops.records import NewSession, Session, Statistics

if TYPE_CHECKING:
    from session_ops.stores.contract import SessionRepository
    from tests.contract.backends import Backend

Order = Literal["oldest", "newest"]


async def walk(repository: SessionRepository, *, limit: int, order: Order = "newest", **filters: Any) -> list[Session]:
    sessions: list[Session] = []
    cursor = None
    while True:
        page = await repository.list_sessions(cursor=cursor, limit=limit, order=order, **filters)
        assert len(page.sessions) <= limit
        sessions.extend(page.sessions)
        cursor = page.cursor
        if cursor is None:
            return sessions


async def fill(repository: SessionRepository, number: int) -> list[Session]:
    return [
        await repository.create(NewSession(user_id=f"user{n % 3}", agent_id=f"agent{n % 2}" if n % 5 else None))
        for n in range(number)
    ]


def place(session: Session) -> tuple[int, str]:
    return session.created_at, session.id


@pytest.mark.parametrize("limit", [1, 7, 30, 1000])
async def test_a_walk_sees_every_session_once_in_order(repository: SessionRepository, limit: int) -> None:
    made = await fill(repository, 30)

    for filters in ({}, {"user_id": "user1"}, {"agent_id": "agent1"}, {"user_id": "user2", "agent_id": "agent0"}):
        wanted = [
            session for session in made if all(getattr(session, name) == value for name, value in filters.items())
        ]
        oldest = await walk(repository, limit=limit, order="oldest", **filters)
        newest = await walk(repository, limit=limit, order="newest", **filters)
        assert oldest == sorted(wanted, key=place)
        assert newest == oldest[::-1]


async def test_a_walk_goes_on_when_its_last_session_ends(repository: SessionRepository) -> None:
    await fill(repository, 30)
    everyone = await walk(repository, limit=1000, order="oldest")

    seen: list[str] = []
    cursor = None
    while True:
        page = await repository.list_sessions(cursor=cursor, limit=5, order="oldest")
        seen.extend(session.id for session in page.sessions)
        if page.sessions:
            await repository.delete(page.sessions[-1].id)
        if (cursor := page.cursor) is None:
            break

    assert seen == [session.id for session in everyone]


async def test_a_walk_is_not_disturbed_by_changes_and_touches(backend: Backend) -> None:
    repository = backend.repository(ttl=60)
    made = await fill(repository, 12)
    page = await repository.list_sessions(limit=6, order="oldest")
    for session in made:
        await repository.update(session.id, changes={"a": 1})

    rest = await repository.list_sessions(limit=100, order="oldest", cursor=page.cursor)

    assert {s.id for s in page.sessions} | {s.id for s in rest.sessions} == {session.id for session in made}
    assert len(page.sessions) + len(rest.sessions) == 12


async def test_an_unknown_user_has_an_empty_list(repository: SessionRepository, session: Session) -> None:
    page = await repository.list_sessions(user_id="nobody")

    assert (page.sessions, page.cursor) == ([], None)


@pytest.mark.parametrize("cursor", ["", "x", "é", "\0", "a" * 5000, base64.urlsafe_b64encode(b"0.1.2").decode()])
async def test_a_cursor_from_elsewhere_is_refused(repository: SessionRepository, cursor: str) -> None:
    with pytest.raises(InvalidSessionError):
        await repository.list_sessions(cursor=cursor)


async def test_a_cursor_of_another_list_is_refused(repository: SessionRepository) -> None:
    await fill(repository, 10)
    cursor = (await repository.list_sessions(limit=2)).cursor
    assert cursor is not None

    for other in ({"user_id": "user1"}, {"order": "oldest"}):
        with pytest.raises(InvalidSessionError):
            await repository.list_sessions(cursor=cursor, **other)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"limit": 0}, {"limit": 1001}, {"user_id": ""}, {"agent_id": "\n"}])
async def test_a_list_of_nothing_sensible_is_refused(repository: SessionRepository, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidSessionError):
        await repository.list_sessions(**arguments)


async def test_statistics_count_what_happened_and_what_is_there(backend: Backend) -> None:
    repository = backend.repository(ttl=60)
    made = await fill(repository, 10)
    await repository.delete(made[0].id)
    await repository.delete(made[0].id)
    await backend.pass_time(made[1].id, 61)

    assert await repository.count_active() == 8
    await repository.told(await repository.clean(100))
    assert await repository.statistics() == Statistics(active=8, created=10, expired=1, deleted=1, moved=0)
