"""The agent manager is told the same, whichever store holds the sessions."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from session_ops import agent_calls, cleanup
from session_ops.agents import AgentState
from session_ops.records import Ended, NewSession, Session
from session_ops.service import SessionService

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.contract.backends import Backend

CALLS = "session_ops_agent_manager_calls_total"
TTL = 60


class Pool:
    """An application's agent manager: knows which agents are bound, and hears of ends."""

    def __init__(self) -> None:
        self.bound: dict[str, str | None] = {}
        self.released: list[Ended] = []
        self.fails = 0
        self.at_release: Callable[[], Awaitable[None]] | None = None

    def _may_fail(self) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not now")

    async def attach(self, session: Session) -> None:
        self._may_fail()
        self.bound[session.id] = session.agent_id

    async def release(self, ended: Ended) -> None:
        self._may_fail()
        if self.at_release is not None:
            await self.at_release()
        self.bound.pop(ended.id, None)
        self.released.append(ended)

    async def state(self, session_id: str) -> AgentState:
        if session_id in self.bound:
            return "attached"
        return "released" if any(ended.id == session_id for ended in self.released) else "unknown"

    @property
    def keys(self) -> list[tuple[str, int]]:
        return [(ended.id, ended.ended_at) for ended in self.released]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_calls, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(cleanup, "SOON", 0.01)


@pytest.fixture
def pool() -> Pool:
    return Pool()


def host(backend: Backend, manager: Any, name: str = "host", **settings: Any) -> SessionService:
    """The service of one host, with a repository of its own."""
    repository = backend.repository(ttl=TTL)

    async def leads(task: str, seconds: float) -> bool:
        return await repository.lead(task, name, seconds)

    return SessionService(repository, agent_manager=manager, leads=leads, **settings)


async def until(condition: Callable[[], bool]) -> None:
    """Ask until it is so; what happens behind an answer tells nobody."""
    limit = time.monotonic() + 5
    while True:
        if condition():
            return
        assert time.monotonic() < limit
        await asyncio.sleep(0.005)


async def test_an_agent_is_attached_and_released_with_its_session(backend: Backend, pool: Pool) -> None:
    async with host(backend, pool) as service:
        session = await service.create(NewSession(user_id="ann", agent_id="helper"))
        await until(lambda: session.id in pool.bound)
        assert pool.bound == {session.id: "helper"}
        assert await service.agent_state(session.id) == "attached"

        await service.delete(session.id)
        await until(lambda: bool(pool.released))

        assert pool.bound == {}
        assert await service.agent_state(session.id) == "released"
    [ended] = pool.released
    assert (ended.id, ended.user_id, ended.agent_id, ended.cause) == (session.id, "ann", "helper", "deleted")


async def test_a_session_without_an_agent_is_released_and_not_attached(backend: Backend, pool: Pool) -> None:
    async with host(backend, pool) as service:
        session = await service.create(NewSession(user_id="ann"))
        await service.delete(session.id)
        await until(lambda: bool(pool.released))

    assert [(ended.id, ended.agent_id) for ended in pool.released] == [(session.id, None)]
    assert pool.bound == {}


async def test_every_session_of_a_revoked_user_is_released(backend: Backend, pool: Pool) -> None:
    async with host(backend, pool) as service:
        made = {(await service.create(NewSession(user_id="ann", agent_id=f"a{n}"))).id for n in range(5)}
        kept = await service.create(NewSession(user_id="bob", agent_id="helper"))
        await service.delete_user("ann")
        await until(lambda: len(pool.released) == 5)

    assert {ended.id for ended in pool.released} == made
    assert {ended.cause for ended in pool.released} == {"deleted"}
    assert pool.bound == {kept.id: "helper"}


async def test_an_expired_session_is_released_when_the_clock_comes(backend: Backend, pool: Pool) -> None:
    async with host(backend, pool, cleanup_interval=0.05) as service:
        session = await service.create(NewSession(user_id="ann", agent_id="helper"))
        await backend.pass_time(session.id, TTL + 1)
        await until(lambda: bool(pool.released))

    assert [(ended.id, ended.cause) for ended in pool.released] == [(session.id, "expired")]
    assert pool.keys == [(session.id, session.expires_at - (TTL + 1) * 1000)]


async def test_a_manager_that_fails_loses_no_session_and_is_asked_again(backend: Backend, pool: Pool) -> None:
    service = host(backend, pool)
    pool.fails = 1_000
    session = await service.create(NewSession(user_id="ann", agent_id="helper"))
    gone = await service.create(NewSession(user_id="ann", agent_id="helper"))
    assert await service.delete(gone.id)

    assert await service.cleanup.run() == 0
    assert await service.get(session.id) == session
    pool.fails = 2
    assert await service.cleanup.run() == 1
    assert await service.cleanup.run() == 0

    assert [ended.id for ended in pool.released] == [gone.id]
    sums = service.metrics.sums()
    assert sums[CALLS, "release", "failed"] == [6.0]
    assert sums[CALLS, "release", "done"] == [1.0]


async def test_a_manager_that_hangs_is_given_up_and_asked_again(
    backend: Backend, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_calls, "DEADLINE", 0.02)
    service = host(backend, pool)
    session = await service.create(NewSession(user_id="ann"))
    await service.delete(session.id)

    pool.at_release = asyncio.Event().wait  # type: ignore[assignment]
    assert await service.cleanup.run() == 0
    pool.at_release = None
    assert await service.cleanup.run() == 1


async def test_an_end_that_is_told_again_has_the_same_key(backend: Backend, pool: Pool) -> None:
    service = host(backend, pool)
    session = await service.create(NewSession(user_id="ann", agent_id="helper"))
    expired = await service.create(NewSession(user_id="ann"))
    await service.delete(session.id)
    await backend.pass_time(expired.id, TTL + 1)

    for _ in range(3):
        for ended in await backend.repository(ttl=TTL).clean(10):
            await pool.release(ended)
    assert await service.cleanup.run() == 2

    assert len(pool.keys) == 8
    assert len(set(pool.keys)) == 2


async def test_one_host_cleans_at_a_time_however_many_run(backend: Backend) -> None:
    at_work: set[int] = set()
    together: list[set[int]] = []
    pools = [Pool() for _ in range(4)]

    def watched(number: int) -> Callable[[], Awaitable[None]]:
        async def at_release() -> None:
            at_work.add(number)
            together.append(set(at_work))
            await asyncio.sleep(0.001)
            at_work.discard(number)

        return at_release

    for number, pool in enumerate(pools):
        pool.at_release = watched(number)
    async with AsyncExitStack() as stack:
        # One at a time in each host, so that what is at work are hosts
        hosts = [
            await stack.enter_async_context(
                host(backend, pool, f"host{number}", cleanup_interval=0.02, cleanup_batch_size=1)
            )
            for number, pool in enumerate(pools)
        ]
        made = [await hosts[n % 4].create(NewSession(user_id="ann", agent_id=f"a{n}")) for n in range(32)]
        await asyncio.gather(*[hosts[n % 4].delete(session.id) for n, session in enumerate(made)])
        await until(lambda: sum(len(pool.released) for pool in pools) >= 32)
        for running in hosts:
            await running.cleanup.stop()

    told = sorted(key for pool in pools for key in pool.keys)
    assert [key[0] for key in told] == sorted(session.id for session in made), "each is told once: nobody failed"
    assert [hosts for hosts in together if len(hosts) > 1] == []


async def test_a_host_that_finds_another_at_it_leaves_it_alone_until_the_lead_lapses(
    backend: Backend, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, dead = host(backend, pool), backend.repository(ttl=TTL)
    session = await service.create(NewSession(user_id="ann"))
    assert await dead.lead(cleanup.TASK, "a host that dies", 0.3) is True
    await service.delete(session.id)

    assert await service.cleanup.run() is None
    assert pool.released == []
    async with service:
        service.cleanup.soon()
        await until(lambda: sum(service.metrics.sums().get(("session_ops_sessions_cleaned_total",), [])) == 1)
    assert len(pool.released) == 1
    assert await service.cleanup.run() == 0
    await asyncio.sleep(0.01)  # a lead that is given up lapses in a millisecond
    assert await dead.lead(cleanup.TASK, "another", 1) is True, "the lead is given up at the end"


async def test_the_lead_is_kept_while_the_manager_is_slow(
    backend: Backend, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "LEASE", 0.2)
    service, other = host(backend, pool), backend.repository(ttl=TTL)
    session = await service.create(NewSession(user_id="ann"))
    await service.delete(session.id)
    refused: list[bool] = []

    async def slowly() -> None:
        for _ in range(8):
            await asyncio.sleep(0.08)
            refused.append(await other.lead(cleanup.TASK, "another", 0.2))

    pool.at_release = slowly
    assert await service.cleanup.run() == 1
    assert refused == [False] * 8
