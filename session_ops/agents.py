"""The agent manager contract: the application's component that binds agents to sessions and frees them at their end.

An application ships a factory (a callable without arguments that returns an `AgentManager`) as an entry point of the
group `session_ops.agent_manager` and names it in SESSION_AGENT_MANAGER:

    [project.entry-points."session_ops.agent_manager"]
    mine = "shop.agents:AgentPool"
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, Protocol

from session_ops.errors import SettingsError
from session_ops.logs import get_logger, short_id

if TYPE_CHECKING:
    from session_ops.records import Ended, Session

GROUP = "session_ops.agent_manager"
AgentState = Literal["attached", "released", "unknown"]


class AgentManager(Protocol):
    """Binds agents to sessions. The same calls come whichever store holds the session.

    Nothing a manager does or raises can lose or delay a session: its calls come after the store has answered, a call
    that raises or takes longer than its deadline is repeated with growing pauses, and each failure is counted.
    """

    async def attach(self, session: Session) -> None:
        """Bind `session.agent_id` to the session, which has just been created. Comes only for sessions with an agent.

        May come twice for one session: attaching twice is attaching once. Is not heard of when the host dies between
        the session's creation and the call; `state` tells, and an application that minds attaches again.
        """
        ...

    async def release(self, ended: Ended) -> None:
        """Free whatever belongs to a session that was deleted, revoked or has expired.

        Comes at least once for every session that has ended, from one host or another, also after a crash, and is
        repeated until it returns without raising. A receiver that wants it once keeps the key
        (`ended.id`, `ended.ended_at`), which is the same in every repetition. Comes for sessions without an agent, too.
        """
        ...

    async def state(self, session_id: str) -> AgentState:
        """What the manager knows of the session; `unknown` for one it has never heard of."""
        ...


class LoggingAgentManager:
    """Says in the log what it is told and does nothing: the default."""

    def __init__(self) -> None:
        self._log = get_logger()

    async def attach(self, session: Session) -> None:
        """Log the agent's binding."""
        self._log.debug("agent_attached", session=short_id(session.id), agent=session.agent_id)

    async def release(self, ended: Ended) -> None:
        """Log the session's end."""
        self._log.debug(
            "agent_released", session=short_id(ended.id), agent=ended.agent_id, cause=ended.cause, at=ended.ended_at
        )

    async def state(self, session_id: str) -> AgentState:
        """Nothing is remembered."""
        del session_id
        return "unknown"


def load_agent_manager(name: str) -> AgentManager:
    """Make the agent manager that SESSION_AGENT_MANAGER names. Raises `SettingsError` when that cannot be done."""
    if name == "logging":
        return LoggingAgentManager()
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted({"logging", *found}))
        raise SettingsError(f"SESSION_AGENT_MANAGER: no entry point {name!r} in {GROUP}; known: {known}")
    try:
        manager: AgentManager = found[name].load()()
    except Exception as error:
        raise SettingsError(
            f"SESSION_AGENT_MANAGER: {name!r} cannot be made: {type(error).__name__}: {error}"
        ) from error
    return manager
