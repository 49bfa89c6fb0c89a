"""Calls of the agent manager: with a deadline, repeated with growing pauses, counted; never in a session's way."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from session_ops.background import Background
from session_ops.logs import get_logger, short_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from session_ops.agents import AgentManager
    from session_ops.metrics import Metrics
    from session_ops.records import Ended, Session

CALLS = "session_ops_agent_manager_calls_total"
DEADLINE = 10.0
PAUSES = (0.1, 0.5, 2.0)
"""Seconds before each repetition. What still fails then: a release comes again with the next cleanup, an attach is
given up and counted.
"""

WAITING_LIMIT = 10_000
AT_ONCE = 20


class AgentCalls:
    """Tells the agent manager of sessions that begin (in the background) and end (when cleanup asks)."""

    def __init__(self, manager: AgentManager, metrics: Metrics) -> None:
        self._manager = manager
        self._metrics = metrics
        self._waiting: deque[Session] = deque()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._log = get_logger()
        self.background = Background("attaching", self._attach_waiting)

    def attach(self, session: Session) -> None:
        """Tell of a new session soon. When the manager is so slow that too many wait, this one is given up."""
        if len(self._waiting) >= WAITING_LIMIT:
            self._metrics.count(CALLS, "attach", "dropped")
            return
        self._waiting.append(session)
        self.background.wake()

    async def release(self, ended: Ended) -> bool:
        """Tell of an end; False when the manager did not take it."""
        return await self._call("release", ended.id, lambda: self._manager.release(ended))

    async def _attach_waiting(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            await asyncio.gather(*map(self._attach, batch))

    async def _attach(self, session: Session) -> None:
        await self._call("attach", session.id, lambda: self._manager.attach(session))

    async def _call(self, call: str, session_id: str, make: Callable[[], Coroutine[object, object, None]]) -> bool:
        async with self._at_once:
            for pause in (*PAUSES, None):
                try:
                    async with asyncio.timeout(DEADLINE):
                        await make()
                except Exception as error:  # noqa: BLE001 - the manager is the application's code: anything may come
                    self._metrics.count(CALLS, call, "failed")
                    self._log.warning(
                        "agent_manager_failed", call=call, session=short_id(session_id), error=type(error).__name__
                    )
                else:
                    self._metrics.count(CALLS, call, "done")
                    return True
                if pause is not None:
                    await asyncio.sleep(pause)
        return False
