"""The cleanup of ended sessions: in batches until dry, telling the agent manager of each end at least once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from session_ops.errors import StoreUnavailableError
from session_ops.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.agent_calls import AgentCalls
    from session_ops.metrics import Metrics
    from session_ops.stores.contract import SessionRepository

    Leads = Callable[[str, float], Awaitable[bool]]

SOON = 1.0
"""Seconds between a deletion and the run that tells of it: many deletions share one run."""

LEASE = 10.0
"""Seconds after which another process may clean when the one that does has died."""

TASK = "cleanup"
TURN = "cleanup-turn"


class Cleanup:
    """Runs every `interval` seconds, and soon after a session was deleted here; one process of the fleet at a time.

    `leads(task, seconds)` takes or keeps the lead of a task for this process: of TASK while it cleans, and of TURN to
    be the one whose clock counts. A run behind a deletion takes no turn, or the agent manager would hear of it only
    when that process' time comes.
    """

    def __init__(
        self,
        repository: SessionRepository,
        agents: AgentCalls,
        metrics: Metrics,
        *,
        interval: float,
        batch: int,
        leads: Leads | None = None,
    ) -> None:
        """`interval` in seconds; `batch` is the number of sessions taken per step. Without `leads` it is alone."""
        self._repository = repository
        self._agents = agents
        self._metrics = metrics
        self._interval = interval
        self._batch = batch
        self._leads = leads
        self._lost = False
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger()

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run_for_ever(), name="cleanup")

    async def stop(self) -> None:
        """End the work where it stands: what was taken and not confirmed comes again."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def soon(self) -> None:
        """Ask for a run behind the deletions of this moment."""
        self._asked.set()

    async def run(self) -> int | None:
        """Take, tell and confirm until there is nothing left; the number of sessions that were cleaned.

        None when another process is at it. Ends early when a whole batch could not be told: the agent manager is down
        then, and all of it comes again with the next run. Raises `StoreUnavailableError`.
        """
        if self._leads is None:
            return await self._run()
        if not await self._leads(TASK, LEASE):
            return None
        self._lost = False
        keeping = asyncio.get_running_loop().create_task(self._keep(self._leads), name="cleanup lead")
        try:
            return await self._run()
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            # Given up for whoever waits; where that fails it lapses
            with contextlib.suppress(StoreUnavailableError):
                await self._leads(TASK, 0)

    async def _keep(self, leads: Leads) -> None:
        """Keep the lead: a batch takes long when the agent manager is slow."""
        loop = asyncio.get_running_loop()
        until = loop.time() + LEASE
        while not self._lost:
            await asyncio.sleep(LEASE / 4)
            asked = loop.time()
            try:
                self._lost = not await leads(TASK, LEASE)
            except StoreUnavailableError:
                self._lost = loop.time() > until
            else:
                until = asked + LEASE

    async def _run(self) -> int:
        cleaned = 0
        while not self._lost and (ended := await self._repository.clean(self._batch)):
            heard = await asyncio.gather(*map(self._agents.release, ended))
            told = [end for end, was_heard in zip(ended, heard, strict=True) if was_heard]
            if not told:
                break
            await self._repository.told(told)
            cleaned += len(told)
            self._metrics.count("session_ops_sessions_cleaned_total", by=len(told))
        return cleaned

    async def _run_for_ever(self) -> None:
        pause = self._interval * random.random()  # noqa: S311 - spreads the hosts of a fleet, no secret
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._asked.wait()
                    await asyncio.sleep(SOON)
            asked = self._asked.is_set()
            self._asked.clear()
            pause = self._interval
            await self._run_once(asked=asked)

    async def _run_once(self, *, asked: bool) -> None:
        try:
            if not asked and self._leads is not None and not await self._leads(TURN, self._interval / 2):
                return
            cleaned = await self.run()
            if cleaned is None:
                # Whoever is at it may have looked before what was deleted here
                if asked:
                    self._asked.set()
                return
        except StoreUnavailableError as error:
            self._metrics.count("session_ops_cleanup_runs_total", "failed")
            self._log.warning("cleanup_failed", store=error.store, reason=error.reason)
        except Exception as error:  # noqa: BLE001 - a run that breaks must not be the last one
            self._metrics.count("session_ops_cleanup_runs_total", "failed")
            self._log.error("cleanup_failed", error=type(error).__name__, detail=str(error))
        else:
            self._metrics.count("session_ops_cleanup_runs_total", "done")
            if cleaned:
                self._log.info("cleanup_done", cleaned=cleaned)
