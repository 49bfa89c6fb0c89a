"""Colliding changes of one session from several connections, under READ COMMITTED: nothing is lost, nothing revived."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.errors import RevisionConflictError, SessionNotFoundError
from session_ops.records import NewSession

if TYPE_CHECKING:
    from session_ops.stores.legacy import LegacySessionRepository
    from tests.contract.legacy_backend import LegacyBackend

CLIENTS = 4
ROUNDS = 60
INCREMENTS = 25
AT_ONCE = 15
"""Calls of each client that wait for the same row: few enough for their deadline."""


@pytest.fixture(params=["postgresql", "sqlite"])
def clients(request: pytest.FixtureRequest) -> list[LegacySessionRepository]:
    """Repositories with connections of their own, on one empty store."""
    backend: LegacyBackend = request.getfixturevalue(request.param)
    return [backend.repository() for _ in range(CLIENTS)]


async def test_no_colliding_update_of_different_attributes_is_lost(clients: list[LegacySessionRepository]) -> None:
    session = await clients[0].create(NewSession(user_id="ann"))

    async def write(number: int, client: LegacySessionRepository) -> None:
        for count in range(ROUNDS):
            await client.change(session.id, changes={f"client{number}": count, f"only{number}-{count}": None})

    await asyncio.gather(*[write(number, client) for number, client in enumerate(clients)])

    read = await clients[0].get(session.id)
    assert read is not None
    assert read.version == 1 + CLIENTS * ROUNDS
    assert [read.data[f"client{number}"] for number in range(CLIENTS)] == [ROUNDS - 1] * CLIENTS
    assert len(read.data) == CLIENTS + CLIENTS * ROUNDS


async def test_no_increment_guarded_by_the_revision_is_lost(clients: list[LegacySessionRepository]) -> None:
    session = await clients[0].create(NewSession(user_id="ann", data={"count": 0}))
    conflicts = 0

    async def increment(client: LegacySessionRepository) -> None:
        nonlocal conflicts
        done = 0
        while done < INCREMENTS:
            seen = await client.get(session.id)
            assert seen is not None
            try:
                await client.update(
                    session.id, changes={"count": seen.data["count"] + 1}, expected_revision=seen.revision
                )
                done += 1
            except RevisionConflictError:
                conflicts += 1

    await asyncio.gather(*[increment(client) for client in clients])

    read = await clients[0].get(session.id)
    assert read is not None
    assert read.data == {"count": CLIENTS * INCREMENTS}
    assert conflicts > 0, "nothing has collided"


async def test_each_change_of_the_same_attribute_is_answered_as_it_was_made(
    clients: list[LegacySessionRepository],
) -> None:
    session = await clients[0].create(NewSession(user_id="ann"))
    calls = [client.update(session.id, changes={"by": n}) for n, client in enumerate(clients * AT_ONCE)]

    answers = await asyncio.gather(*calls)

    assert sorted(answer.version for answer in answers) == list(range(2, len(calls) + 2))
    assert [answer.data["by"] for answer in answers] == list(range(len(calls)))
    last = max(answers, key=lambda answer: answer.version)
    assert await clients[0].get(session.id) == last


async def test_a_session_that_ends_under_its_writers_stays_ended(clients: list[LegacySessionRepository]) -> None:
    async def outcome(call: Any) -> str:
        try:
            return type(await call).__name__
        except SessionNotFoundError:
            return "absent"

    for _ in range(15):
        session = await clients[0].create(NewSession(user_id="ann", ttl=60))
        calls = [client.update(session.id, changes={"a": 1}) for client in clients[1:] for _ in range(3)]
        calls += [clients[0].delete(session.id), clients[1].delete(session.id), clients[2].touch(session.id)]  # type: ignore[list-item]
        random.shuffle(calls)

        await asyncio.gather(*map(outcome, calls))

        assert await clients[0].get(session.id) is None
    ended = await clients[0].clean(100)
    assert len(ended) == 15
    assert (await clients[0].statistics()).deleted == 15


async def test_only_one_of_many_deletes_ends_a_session(clients: list[LegacySessionRepository]) -> None:
    session = await clients[0].create(NewSession(user_id="ann"))

    ended = await asyncio.gather(*[client.delete(session.id) for client in clients * 5])

    assert sorted(ended) == [False] * (len(ended) - 1) + [True]


async def test_revoking_a_user_twice_at_once_ends_each_session_once(clients: list[LegacySessionRepository]) -> None:
    sessions = await asyncio.gather(*[clients[0].create(NewSession(user_id="ann")) for _ in range(150)])

    async def write(client: LegacySessionRepository) -> None:
        for session in sessions[:40]:
            try:
                await client.update(session.id, changes={"a": 1})
            except SessionNotFoundError:
                continue

    ended = await asyncio.gather(
        clients[0].delete_user("ann"), clients[1].delete_user("ann"), *[write(client) for client in clients[2:]]
    )

    assert sum(number for number in ended if number is not None) == 150
    assert await clients[0].count_active() == 0


async def test_of_two_creates_with_one_id_one_wins(clients: list[LegacySessionRepository]) -> None:
    for number in range(10):
        new = NewSession(user_id="ann", id=f"chosen{number}")

        outcomes = await asyncio.gather(*[client.create(new) for client in clients], return_exceptions=True)

        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Session"] + ["SessionExistsError"] * 3


async def test_two_cleaners_at_once_lose_no_end(clients: list[LegacySessionRepository]) -> None:
    sessions = await asyncio.gather(*[clients[0].create(NewSession(user_id="ann")) for _ in range(60)])
    await clients[0].delete_user("ann")

    async def clean(client: LegacySessionRepository) -> set[str]:
        heard: set[str] = set()
        while ended := await client.clean(10):
            await client.told(ended)
            heard.update(end.id for end in ended)
        return heard

    heard = await asyncio.gather(clean(clients[0]), clean(clients[1]))

    assert heard[0] | heard[1] == {session.id for session in sessions}
    assert (await clients[0].statistics()).deleted == 60


async def test_the_lead_has_one_holder_at_a_time(clients: list[LegacySessionRepository]) -> None:
    leads = await asyncio.gather(*[client.lead("cleanup", f"host{n}", 30) for n, client in enumerate(clients)])

    assert sorted(leads) == [False, False, False, True]
    holder = leads.index(True)
    assert await clients[holder].lead("cleanup", f"host{holder}", 0.001) is True, "the holder leads on"
    await asyncio.sleep(0.01)
    assert await clients[0].lead("cleanup", "another", 30) is True, "a lead that has lapsed is free"
