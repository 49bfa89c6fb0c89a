"""A session's life: created, read, slid on, expired, deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from session_ops.errors import RevisionConflictError, SessionExistsError, SessionNotFoundError
from session_ops.records import NewSession, Session

if TYPE_CHECKING:
    from session_ops.stores.contract import SessionRepository
    from tests.contract.backends import Backend

DAY = 86_400


async def test_a_created_session_is_read_back_as_it_was_answered(repository: SessionRepository) -> None:
    created = await repository.create(NewSession(user_id="ann", agent_id="helper", data={"a": 1, "b": {"c": [None]}}))

    assert await repository.get(created.id) == created
    assert (created.user_id, created.agent_id, created.data) == ("ann", "helper", {"a": 1, "b": {"c": [None]}})
    assert created.created_at == created.updated_at
    assert created.version == 1


async def test_a_session_needs_neither_agent_nor_data(repository: SessionRepository) -> None:
    created = await repository.create(NewSession(user_id="ann"))

    read = await repository.get(created.id)

    assert read is not None
    assert (read.agent_id, read.data) == (None, {})


async def test_a_session_lives_for_the_ttl_to_begin_with(backend: Backend) -> None:
    created = await backend.repository(ttl=3_600).create(NewSession(user_id="ann"))

    assert created.expires_at - created.created_at == 3_600_000


async def test_a_session_may_have_a_ttl_of_its_own(backend: Backend) -> None:
    repository = backend.repository(ttl=3_600)
    created = await repository.create(NewSession(user_id="ann", ttl=60))

    touched = await repository.touch(created.id)

    assert created.expires_at - created.created_at == 60_000
    assert touched.expires_at - created.created_at <= 63_000


async def test_an_id_in_use_is_refused(repository: SessionRepository, session: Session) -> None:
    with pytest.raises(SessionExistsError):
        await repository.create(NewSession(user_id="bob", id=session.id))

    assert await repository.get(session.id) == session


async def test_the_id_of_a_deleted_session_is_refused(repository: SessionRepository, session: Session) -> None:
    await repository.delete(session.id)

    with pytest.raises(SessionExistsError):
        await repository.create(NewSession(user_id="ann", id=session.id))


async def test_many_are_read_in_the_order_asked_for(repository: SessionRepository, session: Session) -> None:
    other = await repository.create(NewSession(user_id="bob"))

    read = await repository.get_many([other.id, "unknown", session.id, "..", other.id])

    assert read == [other, None, session, None, other]
    assert await repository.get_many([]) == []


async def test_a_touch_moves_the_expiry_up_to_a_step_and_keeps_the_revision(backend: Backend) -> None:
    repository = backend.repository(ttl=DAY)
    created = await repository.create(NewSession(user_id="ann", data={"a": 1}))
    await backend.pass_time(created.id, 1_000)
    before = await repository.get(created.id)
    assert before is not None

    touched = await repository.touch(created.id)
    again = await repository.touch(created.id)

    assert touched.expires_at == created.created_at + DAY * 1000 + DAY * 50 - 1_000_000
    assert (touched.revision, touched.data, touched.updated_at) == (before.revision, before.data, before.updated_at)
    assert touched.version == before.version + 1
    assert again == touched, "a touch within the step changes nothing"


async def test_a_touch_never_shortens_a_life(backend: Backend) -> None:
    created = await backend.repository(ttl=DAY).create(NewSession(user_id="ann"))

    touched = await backend.repository(ttl=60).touch(created.id)

    assert touched.expires_at == created.expires_at


async def test_no_use_extends_a_session_beyond_its_maximum_lifetime(backend: Backend) -> None:
    repository = backend.repository(ttl=60, max_lifetime=90)
    created = await repository.create(NewSession(user_id="ann"))
    await backend.pass_time(created.id, 50)

    touched = await repository.touch(created.id)

    assert touched.expires_at == touched.created_at + 90_000


async def test_every_change_slides_the_session_on(backend: Backend) -> None:
    repository = backend.repository(ttl=DAY)
    for change in (
        lambda session_id: repository.update(session_id, changes={"a": 1}),
        lambda session_id: repository.change(session_id, changes={"a": 1}),
        lambda session_id: repository.replace(session_id, data={"a": 1}),
    ):
        created = await repository.create(NewSession(user_id="ann"))
        await backend.pass_time(created.id, DAY - 60)

        changed = await change(created.id)

        assert changed.expires_at > changed.updated_at + DAY * 1000


async def test_an_expired_session_is_absent_and_nothing_revives_it(backend: Backend) -> None:
    repository = backend.repository(ttl=60)
    created = await repository.create(NewSession(user_id="ann", agent_id="helper"))
    await backend.pass_time(created.id, 61)

    assert await repository.get(created.id) is None
    for attempt in (
        repository.touch(created.id),
        repository.update(created.id, changes={"a": 1}),
        repository.change(created.id, changes={"a": 1}),
        repository.replace(created.id, data={}),
    ):
        with pytest.raises(SessionNotFoundError):
            await attempt
    assert await repository.delete(created.id) is False
    assert await repository.get(created.id) is None
    assert (await repository.list_sessions()).sessions == []
    assert await repository.count_active() == 0


async def test_a_deleted_session_is_absent_and_nothing_revives_it(
    repository: SessionRepository, session: Session
) -> None:
    assert await repository.delete(session.id) is True

    assert await repository.get(session.id) is None
    for attempt in (
        repository.touch(session.id),
        repository.update(session.id, changes={"a": 1}),
        repository.change(session.id, changes={"a": 1}),
        repository.replace(session.id, data={}),
    ):
        with pytest.raises(SessionNotFoundError):
            await attempt
    assert await repository.delete(session.id) is False
    assert (await repository.list_sessions(user_id="ann")).sessions == []


async def test_a_delete_may_expect_a_revision(repository: SessionRepository, session: Session) -> None:
    with pytest.raises(RevisionConflictError) as conflict:
        await repository.delete(session.id, expected_revision="0123456789abcdef")

    assert conflict.value.revision == session.revision
    assert await repository.get(session.id) == session
    assert await repository.delete(session.id, expected_revision=session.revision) is True


@pytest.mark.parametrize("session_id", ["", "unknown", "a:b", "a{b}", "*", "..", "a\nb", "\0", "x" * 4096, "a b", "é"])
async def test_an_id_that_no_session_has_is_unknown_to_everything(
    repository: SessionRepository, session_id: str
) -> None:
    assert await repository.get(session_id) is None
    assert await repository.delete(session_id) is False
    for attempt in (
        repository.touch(session_id),
        repository.update(session_id, changes={"a": 1}),
        repository.replace(session_id, data={}),
    ):
        with pytest.raises(SessionNotFoundError):
            await attempt


async def test_all_sessions_of_a_user_end_together(repository: SessionRepository) -> None:
    mine = [await repository.create(NewSession(user_id="ann", agent_id=f"agent{n % 3}")) for n in range(120)]
    other = await repository.create(NewSession(user_id="bob"))

    assert await repository.delete_user("ann") == 120

    assert await repository.get_many([session.id for session in mine]) == [None] * 120
    assert await repository.get(other.id) == other
    assert await repository.delete_user("ann") == 0


async def test_a_touch_behind_a_read_is_sent_once_and_where_it_is_due(backend: Backend) -> None:
    repository = backend.repository(ttl=DAY)
    created = await repository.create(NewSession(user_id="ann", data={"a": 1}))
    await backend.pass_time(created.id, 3_600)
    read = await repository.get(created.id)
    assert read is not None

    sent = [repository.touch_later(read) for _ in range(3)]

    assert sent == [True, False, False]
    after = read
    for _ in range(1_000):
        after = await repository.get(created.id) or after
        if after.expires_at > read.expires_at:
            break
        await asyncio.sleep(0.002)
    assert after.expires_at > read.expires_at
    assert (after.revision, after.data) == (read.revision, read.data)
    assert repository.touch_later(after) is False


async def test_no_touch_behind_a_read_revives_what_has_ended(backend: Backend) -> None:
    repository = backend.repository(ttl=DAY)
    deleted = await repository.create(NewSession(user_id="ann"))
    expired = await repository.create(NewSession(user_id="ann"))
    read = []
    for session in (deleted, expired):
        await backend.pass_time(session.id, 3_600)
        found = await repository.get(session.id)
        assert found is not None
        read.append(found)
    await repository.delete(deleted.id)
    await backend.pass_time(expired.id, DAY)

    for session in read:
        repository.touch_later(session)
    await asyncio.sleep(0.05)

    assert await repository.get_many([deleted.id, expired.id]) == [None, None]
    assert await repository.count_active() == 0
