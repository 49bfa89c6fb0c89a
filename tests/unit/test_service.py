"""SessionService: touches behind reads, and the agent manager told of begin and end whatever fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from session_ops import agent_calls, cleanup
from session_ops.agents import AgentState, LoggingAgentManager, load_agent_manager
from session_ops.errors import OverloadedError, SessionNotFoundError, SettingsError, StoreUnavailableError
from session_ops.records import Ended, NewSession, Session
from session_ops.service import SessionService
from tests.unit.fake_repository import FakeRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Manager:
    """Hears everything; `failures` calls raise first."""

    def __init__(self, failures: int = 0) -> None:
        self.attached: list[str] = []
        self.released: list[Ended] = []
        self.failures = failures
        self.refused: set[str] = set()
        self.heard = asyncio.Event()

    def _maybe_fail(self, session_id: str) -> None:
        if session_id in self.refused:
            raise RuntimeError("never this one")
        if self.failures:
            self.failures -= 1
            raise RuntimeError("not now")

    async def attach(self, session: Session) -> None:
        self._maybe_fail(session.id)
        self.attached.append(session.id)
        self.heard.set()

    async def release(self, ended: Ended) -> None:
        self._maybe_fail(ended.id)
        self.released.append(ended)
        self.heard.set()

    async def state(self, session_id: str) -> AgentState:
        return "attached" if session_id in self.attached else "unknown"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_calls, "PAUSES", (0, 0, 0))
    monkeypatch.setattr(cleanup, "SOON", 0)


@pytest.fixture
def repository() -> FakeRepository:
    return FakeRepository(ttl=100)


@pytest.fixture
async def manager() -> Manager:
    return Manager()


@pytest.fixture
async def service(repository: FakeRepository, manager: Manager) -> AsyncIterator[SessionService]:
    async with SessionService(repository, agent_manager=manager, cleanup_interval=3600) as service:
        yield service


async def heard(manager: Manager) -> None:
    async with asyncio.timeout(5):
        await manager.heard.wait()


async def test_a_read_whose_slide_is_due_is_followed_by_one_touch(
    service: SessionService, repository: FakeRepository
) -> None:
    session = await service.create(NewSession(user_id="u"))
    repository.ahead = 50_000
    assert await service.get(session.id) == session
    await service.get(session.id)
    assert repository.calls.count("touch_later") == 1
    assert service.metrics.sums()["session_ops_touches_total",] == [1.0]


async def test_a_read_that_is_not_due_is_followed_by_nothing(
    service: SessionService, repository: FakeRepository
) -> None:
    session = await service.create(NewSession(user_id="u"))
    await service.get_many([session.id])
    assert "touch_later" not in repository.calls


async def test_the_manager_hears_of_a_session_with_an_agent(service: SessionService, manager: Manager) -> None:
    await service.create(NewSession(user_id="u"))
    session = await service.create(NewSession(user_id="u", agent_id="a"))
    await heard(manager)
    assert manager.attached == [session.id]
    assert await service.agent_state(session.id) == "attached"


async def test_a_manager_that_fails_is_asked_again_and_counted(service: SessionService, manager: Manager) -> None:
    manager.failures = 2
    session = await service.create(NewSession(user_id="u", agent_id="a"))
    await heard(manager)
    assert manager.attached == [session.id]
    sums = service.metrics.sums()
    assert sums["session_ops_agent_manager_calls_total", "attach", "failed"] == [2.0]
    assert sums["session_ops_agent_manager_calls_total", "attach", "done"] == [1.0]


async def test_a_manager_that_always_fails_loses_no_session(service: SessionService, manager: Manager) -> None:
    manager.failures = 1000
    session = await service.create(NewSession(user_id="u", agent_id="a"))
    await asyncio.sleep(0.01)
    assert await service.get(session.id) is not None


async def test_the_manager_hears_soon_of_a_deleted_session(
    service: SessionService, manager: Manager, repository: FakeRepository
) -> None:
    session = await service.create(NewSession(user_id="u"))
    assert await service.delete(session.id)
    await heard(manager)
    assert [(end.id, end.cause) for end in manager.released] == [(session.id, "deleted")]
    await repository.confirmed.wait()
    assert not repository.ended


async def test_the_manager_hears_of_all_sessions_of_a_revoked_user(service: SessionService, manager: Manager) -> None:
    ids = {(await service.create(NewSession(user_id="u"))).id for _ in range(3)}
    await service.create(NewSession(user_id="other"))
    assert await service.delete_user("u") == 3
    await heard(manager)
    assert {end.id for end in manager.released} == ids


async def test_cleanup_goes_on_until_dry_in_batches(repository: FakeRepository, manager: Manager) -> None:
    service = SessionService(repository, agent_manager=manager, cleanup_batch_size=2)
    for _ in range(5):
        await service.create(NewSession(user_id="u"))
    repository.ahead = 10_000_000
    assert await service.cleanup.run() == 5
    assert [end.cause for end in manager.released] == ["expired"] * 5
    assert not repository.ended
    assert repository.calls.count("clean") == 4


async def test_an_end_that_was_not_heard_comes_again_with_the_same_key(
    repository: FakeRepository, manager: Manager
) -> None:
    service = SessionService(repository, agent_manager=manager)
    session = await service.create(NewSession(user_id="u"))
    await repository.delete(session.id)
    key = (session.id, repository.ended[session.id].ended_at)
    manager.failures = 4
    assert await service.cleanup.run() == 0
    assert list(repository.ended) == [session.id]
    assert await service.cleanup.run() == 1
    assert [(end.id, end.ended_at) for end in manager.released] == [key]


async def test_an_end_that_is_never_heard_holds_up_no_other(repository: FakeRepository, manager: Manager) -> None:
    service = SessionService(repository, agent_manager=manager, cleanup_batch_size=1)
    sessions = [await service.create(NewSession(user_id="u")) for _ in range(3)]
    for session in sessions:
        await repository.delete(session.id)
    manager.refused = {sessions[0].id}
    await service.cleanup.run()
    await service.cleanup.run()
    assert {end.id for end in manager.released} == {session.id for session in sessions[1:]}
    assert list(repository.ended) == [sessions[0].id]


async def test_cleanup_leaves_it_to_the_host_that_leads(repository: FakeRepository) -> None:
    async def leads(task: str, seconds: float) -> bool:
        return task != cleanup.TURN

    service = SessionService(repository, cleanup_interval=0.001, leads=leads)
    async with service:
        await asyncio.sleep(0.02)
    assert "clean" not in repository.calls


async def test_a_deletion_is_told_also_by_a_host_that_does_not_lead(
    repository: FakeRepository, manager: Manager
) -> None:
    async def leads(task: str, seconds: float) -> bool:
        return task != cleanup.TURN

    async with SessionService(repository, agent_manager=manager, leads=leads) as service:
        session = await service.create(NewSession(user_id="u"))
        await service.delete(session.id)
        await heard(manager)
    assert [end.id for end in manager.released] == [session.id]


async def test_cleanup_survives_a_store_that_is_down(repository: FakeRepository, manager: Manager) -> None:
    async with SessionService(repository, agent_manager=manager, cleanup_interval=0.001) as service:
        session = await service.create(NewSession(user_id="u"))
        await repository.delete(session.id)
        repository.fails = StoreUnavailableError("redis", "unreachable")
        await asyncio.sleep(0.01)
        repository.fails = None
        await heard(manager)
        sums = service.metrics.sums()
    assert sums["session_ops_cleanup_runs_total", "failed"][0] >= 1
    assert sums["session_ops_store_errors_total", "redis", "clean", "unavailable"][0] >= 1


async def test_errors_are_measured_by_kind_and_answers_are_not_errors(
    service: SessionService, repository: FakeRepository
) -> None:
    with pytest.raises(SessionNotFoundError):
        await service.touch("nix")
    repository.fails = OverloadedError("redis", "queue full")
    with pytest.raises(OverloadedError):
        await service.get("nix")
    errors = {key[1:]: value for key, value in service.metrics.sums().items() if key[0].endswith("errors_total")}
    assert errors == {("redis", "get", "overloaded"): [1.0]}


def test_the_agent_manager_is_named_by_a_setting() -> None:
    assert isinstance(load_agent_manager("logging"), LoggingAgentManager)
    with pytest.raises(SettingsError, match="SESSION_AGENT_MANAGER: no entry point 'mine'"):
        load_agent_manager("mine")
