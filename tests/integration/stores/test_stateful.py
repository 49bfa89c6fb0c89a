"""A repository on a real Redis against a model, with concurrent clients.

Operations that run at the same time on one session must have some order in which a plain dictionary gives the same
answers: that is what "atomic" means to a caller.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from session_ops.errors import RevisionConflictError, SessionExistsError, SessionNotFoundError
from session_ops.records import Changed, NewSession, Session
from session_ops.stores.library import load_library
from session_ops.stores.redis import RedisSessionRepository
from tests.conftest import administrator_connection, service_connection

if TYPE_CHECKING:
    from tests.servers import RedisServer

IDS = ["a", "b", "c"]
NAMES = st.sampled_from(["x", "y", "z", "long"])
VALUES = st.one_of(st.integers(0, 9), st.just("v" * 50), st.none(), st.just([1, {"k": "v"}]))
DATA = st.dictionaries(NAMES, VALUES, max_size=3)
_prefixes = itertools.count(1)


class Operation(NamedTuple):
    """One call: `guard` is None (no expected revision), "now" (the one before the batch) or "old" (one that is not)."""

    kind: str
    data: dict[str, Any]
    remove: tuple[str, ...]
    guard: str | None


OPERATIONS = st.builds(
    Operation,
    st.sampled_from(["update", "change", "replace", "delete", "touch", "get"]),
    DATA,
    st.lists(NAMES, max_size=2, unique=True).map(tuple),
    st.sampled_from([None, None, None, "now", "old"]),
)


class State(NamedTuple):
    """The model of one session: `data` None is absent; `changes` counts the changes of this batch."""

    data: dict[str, Any] | None
    changes: int


def apply(state: State, operation: Operation) -> tuple[State, Any]:
    """What a dictionary would do, and answer."""
    if operation.kind == "get":
        return state, state.data
    if state.data is None:
        return state, False if operation.kind == "delete" else "absent"
    if operation.kind == "touch":
        return state, state.data
    if operation.guard == "old" or (operation.guard == "now" and state.changes):
        return state, "conflict"
    if operation.kind == "delete":
        return State(None, state.changes + 1), True
    if operation.kind == "replace":
        data = operation.data
    else:
        data = {key: value for key, value in {**state.data, **operation.data}.items() if key not in operation.remove}
    return State(data, state.changes + 1), "changed" if operation.kind == "change" else data


async def call(repository: RedisSessionRepository, session_id: str, operation: Operation, revision: str) -> Any:
    """Make the call and reduce its answer to what the model can say."""
    expected = {None: None, "now": revision, "old": "00000000000000ff"}[operation.guard]
    answer: Any
    try:
        if operation.kind == "get":
            answer = await repository.get(session_id)
        elif operation.kind == "touch":
            answer = await repository.touch(session_id)
        elif operation.kind == "delete":
            answer = await repository.delete(session_id, expected_revision=expected)
        elif operation.kind == "replace":
            answer = await repository.replace(session_id, data=operation.data, expected_revision=expected)
        else:
            method = repository.update if operation.kind == "update" else repository.change
            answer = await method(
                session_id, changes=operation.data, remove=operation.remove, expected_revision=expected
            )
    except SessionNotFoundError:
        return "absent"
    except RevisionConflictError:
        return "conflict"
    if isinstance(answer, Session):
        return answer.data
    return "changed" if isinstance(answer, Changed) else answer


class Repositories(RuleBasedStateMachine):
    """Three clients on connections of their own, and the model."""

    server: RedisServer
    partitions = 1

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.sessions: dict[str, Session | None] = {}
        self.ended: set[str] = set()

    def run(self, call: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(call, 5))

    @initialize()
    def open(self) -> None:
        async def prepare() -> None:
            administrator = administrator_connection(self.server)
            await administrator.call("FLUSHALL", change=True)
            await load_library(administrator)
            await administrator.close()
            await self.clients[0].open_generation()

        self.connections = [service_connection(self.server) for _ in range(3)]
        prefix = f"1-stateful{next(_prefixes)}"
        self.clients = [
            RedisSessionRepository(connection, prefix=prefix, partitions=self.partitions)
            for connection in self.connections
        ]
        self.run(prepare())

    @rule(session_id=st.sampled_from(IDS), data=DATA, agent=st.sampled_from([None, "helper"]))
    def create(self, session_id: str, data: dict[str, Any], agent: str | None) -> None:
        new = NewSession(id=session_id, user_id="ann", agent_id=agent, data=data)

        async def race() -> list[Any]:
            return await asyncio.gather(*[client.create(new) for client in self.clients], return_exceptions=True)

        outcomes = self.run(race())
        created = [outcome for outcome in outcomes if isinstance(outcome, Session)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, SessionExistsError)]
        if session_id in self.sessions:
            assert len(refused) == 3
        else:
            assert (len(created), len(refused)) == (1, 2)
            self.sessions[session_id] = created[0]

    @rule(session_id=st.sampled_from(IDS), batch=st.lists(OPERATIONS, min_size=1, max_size=4))
    def race(self, session_id: str, batch: list[Operation]) -> None:
        before = self.sessions.get(session_id)
        revision = before.revision if before else "00000000000000aa"

        async def run() -> list[Any]:
            clients = itertools.cycle(self.clients)
            return await asyncio.gather(*[call(next(clients), session_id, operation, revision) for operation in batch])

        answers = self.run(run())
        after = self.run(self.clients[0].get(session_id))
        final = after.data if after else None
        for order in itertools.permutations(range(len(batch))):
            state, agreed = State(before.data if before else None, 0), True
            for index in order:
                state, answer = apply(state, batch[index])
                agreed = agreed and answer == answers[index]
            if agreed and state.data == final:
                break
        else:
            raise AssertionError(f"no order explains {batch} -> {answers}, from {before} to {after}")
        if before is not None and after is None:
            self.ended.add(session_id)
        if before is not None and after is not None:
            assert after.version >= before.version + state.changes
            assert after.expires_at >= before.expires_at
            assert (after.revision != before.revision) == (state.changes > 0)
        if session_id in self.sessions:
            self.sessions[session_id] = after

    @rule(filters=st.sampled_from([{}, {"user_id": "ann"}, {"agent_id": "helper"}]), limit=st.integers(1, 3))
    def lists(self, filters: dict[str, str], limit: int) -> None:
        seen: list[Session] = []
        cursor = None
        while True:
            page = self.run(self.clients[1].list_sessions(cursor=cursor, limit=limit, order="oldest", **filters))
            seen.extend(page.sessions)
            if (cursor := page.cursor) is None:
                break
        live = [session for session in self.sessions.values() if session is not None]
        wanted = [session for session in live if "agent_id" not in filters or session.agent_id == "helper"]
        assert [session.id for session in seen] == [
            session.id for session in sorted(wanted, key=lambda session: (session.created_at, session.id))
        ]

    @rule()
    def counts(self) -> None:
        statistics = self.run(self.clients[2].statistics())
        assert statistics.active == sum(session is not None for session in self.sessions.values())
        assert statistics.created == len(self.sessions)
        assert statistics.deleted == sum(session is None for session in self.sessions.values())

    @rule(confirm=st.booleans())
    def cleans(self, confirm: bool) -> None:
        given = self.run(self.clients[0].clean(10))
        assert {ended.id for ended in given} == self.ended
        if confirm:
            self.run(self.clients[1].told(given))
            self.ended.clear()

    def teardown(self) -> None:
        async def close() -> None:
            await asyncio.gather(*[connection.close() for connection in self.connections])

        if hasattr(self, "connections"):
            self.run(close())
        self.loop.close()


@pytest.fixture(params=[1, 4])
def machine(request: pytest.FixtureRequest, redis_server: RedisServer) -> type[Repositories]:
    return type("Machine", (Repositories,), {"server": redis_server, "partitions": request.param})


def test_concurrent_clients_agree_with_a_dictionary(machine: type[Repositories]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
