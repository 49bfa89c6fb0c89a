"""Changes of a session's attributes: merged, replaced, guarded by a revision, bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import InvalidSessionError, RevisionConflictError, SessionTooLargeError
from session_ops.limits import Limits
from session_ops.records import NewSession, Session

if TYPE_CHECKING:
    from session_ops.stores.contract import SessionRepository
    from tests.contract.backends import Backend


async def test_an_update_sets_and_removes_and_leaves_the_rest(repository: SessionRepository, session: Session) -> None:
    updated = await repository.update(session.id, changes={"step": 2, "new": None}, remove=["notes", "absent"])

    assert updated.data == {"step": 2, "new": None}
    assert await repository.get(session.id) == updated
    assert updated.revision != session.revision
    assert updated.version == session.version + 1
    assert (updated.created_at, updated.user_id, updated.agent_id) == (session.created_at, "ann", "helper")


async def test_what_is_both_set_and_removed_ends_removed(repository: SessionRepository, session: Session) -> None:
    updated = await repository.update(session.id, changes={"step": 2, "new": 1}, remove=["new", "step"])

    assert updated.data == {"notes": ["a", "b"]}


async def test_a_change_does_what_an_update_does_without_the_data(
    repository: SessionRepository, session: Session
) -> None:
    changed = await repository.change(session.id, changes={"step": 2}, remove=["notes"])

    read = await repository.get(session.id)
    assert read is not None
    assert read.data == {"step": 2}
    assert {name: getattr(read, name) for name in changed.__struct_fields__} == {
        name: getattr(changed, name) for name in changed.__struct_fields__
    }


async def test_a_replacement_leaves_nothing_of_before(repository: SessionRepository, session: Session) -> None:
    replaced = await repository.replace(session.id, data={"only": True})

    assert replaced.data == {"only": True}
    assert await repository.get(session.id) == replaced
    assert (await repository.replace(session.id, data={})).data == {}
    assert (await repository.update(session.id, changes={"again": 1})).data == {"again": 1}


async def test_an_expected_revision_that_differs_changes_nothing(
    repository: SessionRepository, session: Session
) -> None:
    newer = await repository.update(session.id, changes={"step": 2})

    for revision in (session.revision, "no revision", "", "0" * 16):
        for attempt in (
            repository.update(session.id, changes={"step": 9}, expected_revision=revision),
            repository.change(session.id, changes={"step": 9}, expected_revision=revision),
            repository.replace(session.id, data={}, expected_revision=revision),
        ):
            with pytest.raises(RevisionConflictError) as conflict:
                await attempt
            assert conflict.value.revision == newer.revision
    assert await repository.get(session.id) == newer
    await repository.update(session.id, changes={"step": 3}, expected_revision=newer.revision)


async def test_updates_of_different_attributes_do_not_overwrite_each_other(backend: Backend) -> None:
    clients = [backend.repository() for _ in range(4)]
    session = await clients[0].create(NewSession(user_id="ann"))
    # Each move sends all others another round, and there is an end to rounds
    count = 12 if backend.moves else 40

    await asyncio.gather(
        *[clients[number % 4].update(session.id, changes={f"attribute{number}": number}) for number in range(count)]
    )

    read = await clients[0].get(session.id)
    assert read is not None
    assert read.data == {f"attribute{number}": number for number in range(count)}
    if not backend.moves:
        assert read.version == 41


async def test_as_many_names_as_may_be_removed_at_once_disturb_nobody(
    repository: SessionRepository, session: Session
) -> None:
    other = await repository.create(NewSession(user_id="ann"))
    names = ["notes", *[f"absent{number}" for number in range(4_096)]]

    emptied, changed = await asyncio.gather(
        repository.update(session.id, changes={}, remove=names[:4_096]),
        repository.update(other.id, changes={"step": 2}),
    )
    with pytest.raises(InvalidSessionError):
        await repository.update(session.id, changes={}, remove=names)

    assert "notes" not in emptied.data
    assert changed.data == {"step": 2}


async def test_updates_made_at_once_are_each_answered_with_what_they_made(
    repository: SessionRepository, session: Session
) -> None:
    made, removed = await asyncio.gather(
        repository.update(session.id, changes={"new": 1}), repository.update(session.id, changes={}, remove=["new"])
    )

    assert made.data["new"] == 1
    assert "new" not in removed.data
    assert made.revision != removed.revision
    assert made.version != removed.version


async def test_of_two_writers_with_one_revision_one_wins(backend: Backend) -> None:
    one, two = backend.repository(), backend.repository()
    session = await one.create(NewSession(user_id="ann"))

    outcomes = await asyncio.gather(
        one.update(session.id, changes={"by": "one"}, expected_revision=session.revision),
        two.update(session.id, changes={"by": "two"}, expected_revision=session.revision),
        return_exceptions=True,
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["RevisionConflictError", "Session"]


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**63 - 1, -(2**63), 0.1, -1.5e300, "", "plain", "😀 é \u2028 \"\\/", [], {}, [[]],
        {"": {"a b": [1, 2.5, "x", None]}}, "\\u0000", [{"a": [{"b": []}]}],
    ],
)  # fmt: skip
async def test_values_come_back_as_they_were(repository: SessionRepository, value: Any) -> None:
    created = await repository.create(NewSession(user_id="ann", data={"value": value, "né 😀": value}))

    read = await repository.get(created.id)

    assert read is not None
    assert read.data == {"value": value, "né 😀": value}
    assert type(read.data["value"]) is type(value)


@pytest.mark.parametrize(
    "data",
    [
        {"": 1}, {'a"': 1}, {"a\\": 1}, {"a\0": 1}, {"a\n": 1}, {"x" * 129: 1}, {"a": "\0"}, {"a": ["b\0"]},
        {"a": {"\0": 1}},
        {"a": 2**63}, {"a": [-(2**64)]}, {"a": float("nan")}, {"a": [float("inf")]}, {"a": (1,)}, {"a": {1: 2}},
        {"a": b"bytes"}, {"a": "\ud800"}, {"a": object()},
    ],
)  # fmt: skip
async def test_what_no_store_can_keep_is_refused(
    repository: SessionRepository, session: Session, data: dict[str, Any]
) -> None:
    for attempt in (
        repository.create(NewSession(user_id="ann", data=data)),
        repository.update(session.id, changes=data),
        repository.replace(session.id, data=data),
    ):
        with pytest.raises(InvalidSessionError):
            await attempt
    assert await repository.get(session.id) == session


@pytest.mark.parametrize(
    "new",
    [
        NewSession(user_id=""), NewSession(user_id="a\nb"), NewSession(user_id="x" * 257), NewSession(user_id="\0"),
        NewSession(user_id="ann", agent_id=""), NewSession(user_id="ann", agent_id="\x7f"),
        NewSession(user_id="ann", ttl=0), NewSession(user_id="ann", ttl=-1), NewSession(user_id="ann", ttl=10**12),
        *[NewSession(user_id="ann", id=bad) for bad in ("", "a:b", "{}", "*?[", "..", ".a", "\0", "a\n", "x" * 4096)],
    ],
)  # fmt: skip
async def test_a_session_outside_the_limits_is_not_created(repository: SessionRepository, new: NewSession) -> None:
    with pytest.raises(InvalidSessionError):
        await repository.create(new)

    assert await repository.count_active() == 0


@pytest.mark.parametrize("user", ["ann@example.com", "oauth|12:34", "{0}", "*", "名前", "a b", "../..", "%00"])
async def test_users_and_agents_may_be_any_printable_text(repository: SessionRepository, user: str) -> None:
    created = await repository.create(NewSession(user_id=user, agent_id=user))

    assert (await repository.list_sessions(user_id=user, agent_id=user)).sessions == [created]


async def test_a_session_never_outgrows_its_limit_in_many_small_steps(backend: Backend) -> None:
    repository = backend.repository(limits=Limits(size=100, attributes=3))
    session = await repository.create(NewSession(user_id="ann", data={"a": "x" * 40}))
    await repository.update(session.id, changes={"b": "x" * 40})

    for attempt in (
        repository.update(session.id, changes={"c": "x" * 40}),
        repository.change(session.id, changes={"c": "x" * 40}),
        repository.update(session.id, changes={"a": "x" * 80}),
        repository.replace(session.id, data={"a": "x" * 100}),
        repository.create(NewSession(user_id="ann", data={"a": "x" * 100})),
        repository.update(session.id, changes={"c": 1, "d": 1}),
    ):
        with pytest.raises(SessionTooLargeError):
            await attempt
    read = await repository.get(session.id)
    assert read is not None
    assert read.data == {"a": "x" * 40, "b": "x" * 40}


async def test_room_that_is_freed_can_be_used_again(backend: Backend) -> None:
    repository = backend.repository(limits=Limits(size=100, attributes=3))
    session = await repository.create(NewSession(user_id="ann", data={"a": "x" * 90}))

    for number in range(20):
        await repository.update(session.id, changes={f"k{number}": "y" * 85}, remove=["a", f"k{number - 1}"])
        await repository.update(session.id, changes={f"k{number}": "z" * 80})
    await repository.replace(session.id, data={"a": "x" * 90})

    with pytest.raises(SessionTooLargeError):
        await repository.update(session.id, changes={"b": "x" * 10})


async def test_what_was_larger_under_an_earlier_limit_may_shrink(backend: Backend) -> None:
    session = await backend.repository().create(NewSession(user_id="ann", data={"a": "x" * 400, "b": "y" * 400}))
    repository = backend.repository(limits=Limits(size=100))

    shrunk = await repository.update(session.id, changes={"a": "x"})

    assert shrunk.data == {"a": "x", "b": "y" * 400}
    with pytest.raises(SessionTooLargeError):
        await repository.update(session.id, changes={"a": "xx"})
