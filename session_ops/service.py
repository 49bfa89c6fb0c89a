"""Sessions as an application uses them: a repository, sliding expiry behind reads, cleanup, and the agent manager."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from session_ops.agent_calls import AgentCalls
from session_ops.agents import LoggingAgentManager
from session_ops.cleanup import Cleanup
from session_ops.measured import MeasuredRepository
from session_ops.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from session_ops.agents import AgentManager, AgentState
    from session_ops.cleanup import Leads
    from session_ops.records import Changed, NewSession, Page, Session, Statistics
    from session_ops.stores.contract import Order, SessionRepository


class SessionService:
    """What the HTTP API and an application in the same process call.

    Use it as an async context manager: background work (touches, cleanup, the agent manager) runs in between.
    Errors are those of `SessionRepository`. One round trip per operation, the touch behind a read not counted.
    """

    def __init__(
        self,
        repository: SessionRepository,
        *,
        cleanup_interval: float = 3600,
        cleanup_batch_size: int = 100,
        agent_manager: AgentManager | None = None,
        metrics: Metrics | None = None,
        store: str = "redis",
        leads: Leads | None = None,
    ) -> None:
        """`cleanup_interval` in seconds, `cleanup_batch_size` in sessions. `store` names the repository in the metrics;
        `leads(task, seconds)` takes or keeps the lead of a task for this process, so that one cleans at a time; the
        repositories' `lead` does it. None: this process is the only one.
        """
        self.metrics = metrics or Metrics()
        self._repository: SessionRepository = MeasuredRepository(repository, store, self.metrics)
        self._manager = agent_manager or LoggingAgentManager()
        self._agents = AgentCalls(self._manager, self.metrics)
        self.cleanup = Cleanup(
            self._repository,
            self._agents,
            self.metrics,
            interval=cleanup_interval,
            batch=cleanup_batch_size,
            leads=leads,
        )

    async def __aenter__(self) -> Self:
        """Start the background work."""
        self._agents.background.start()
        self.cleanup.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the background work. Ends that were not told yet are told by a later run, here or on another host."""
        await self.cleanup.stop()
        await self._agents.background.stop()

    async def create(self, new: NewSession) -> Session:
        """Create a session; the agent manager is told behind the answer."""
        session = await self._repository.create(new)
        if session.agent_id is not None:
            self._agents.attach(session)
        return session

    async def get(self, session_id: str) -> Session | None:
        """The live session, or None. Where its life is due to slide on, a touch follows behind the answer."""
        session = await self._repository.get(session_id)
        if session is not None and self._repository.touch_later(session):
            self._touched()
        return session

    async def get_many(self, session_ids: Sequence[str]) -> list[Session | None]:
        """The live sessions in the order of the ids, each used as by `get`."""
        sessions = await self._repository.get_many(session_ids)
        for session in sessions:
            if session is not None and self._repository.touch_later(session):
                self._touched()
        return sessions

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        """Set and remove single attributes; all others stay as they are in the store."""
        return await self._repository.update(
            session_id, changes=changes, remove=remove, expected_revision=expected_revision
        )

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        """As `update`, answered without the attributes: cheaper where the caller has them."""
        return await self._repository.change(
            session_id, changes=changes, remove=remove, expected_revision=expected_revision
        )

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        """Set the session's attributes to exactly `data`."""
        return await self._repository.replace(session_id, data=data, expected_revision=expected_revision)

    async def touch(self, session_id: str) -> Session:
        """Slide the session's life on now."""
        return await self._repository.touch(session_id)

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """End the session; True when this call ended it. The agent manager is told soon after."""
        ended = await self._repository.delete(session_id, expected_revision=expected_revision)
        if ended:
            self.cleanup.soon()
        return ended

    async def delete_user(self, user_id: str) -> int:
        """End all sessions of a user; the number that this call ended. The agent manager is told soon after."""
        try:
            return await self._repository.delete_user(user_id)
        finally:
            self.cleanup.soon()  # after an error, too: some may have ended

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        order: Order = "newest",
    ) -> Page:
        """A page of sessions. Being listed is not being used: no life slides on."""
        return await self._repository.list_sessions(
            user_id=user_id, agent_id=agent_id, cursor=cursor, limit=limit, order=order
        )

    async def count_active(self) -> int:
        """The number of live sessions."""
        return await self._repository.count_active()

    async def statistics(self) -> Statistics:
        """What the store holds and has seen."""
        return await self._repository.statistics()

    def _touched(self) -> None:
        self.metrics.count("session_ops_touches_total")

    async def agent_state(self, session_id: str) -> AgentState:
        """What the agent manager knows of the session."""
        return await self._manager.state(session_id)
