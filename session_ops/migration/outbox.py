"""The ends that the agent manager has not heard of: told before another store keeps them.

While the legacy store is complete its rows are the outbox, in mode final Redis' index is. On the way from one to the
other nobody else may take ends, or what has left the one would be missing in the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Self

from session_ops.agent_calls import AgentCalls
from session_ops.cleanup import LEASE, TASK
from session_ops.errors import StoreUnavailableError, UnfinishedError
from session_ops.metrics import Metrics

if TYPE_CHECKING:
    from types import TracebackType

    from session_ops.agents import AgentManager
    from session_ops.stores.contract import Leading, SessionRepository

PATIENCE: Final = 60.0
"""Seconds that another process' cleanup may go on before this gives up waiting for it."""


class Outbox:
    """Use it as an async context manager: in between no host takes ends. `holder` names this process."""

    def __init__(
        self, repository: Leading, manager: AgentManager, *, holder: str, batch: int = 100, patience: float = PATIENCE
    ) -> None:
        self._repository = repository
        self._holder = holder
        self._patience = patience
        self._agents = AgentCalls(manager, Metrics())
        self._batch = batch
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Wait for whoever cleans just now. Raises `UnfinishedError`."""
        until = time.monotonic() + self._patience
        while not await self._repository.lead(TASK, self._holder, LEASE):
            if time.monotonic() > until:
                raise UnfinishedError(
                    f"another process has been telling the agent manager of ends for {self._patience:g} s: run the same"
                    " again when it has done"
                )
            await asyncio.sleep(0.2)
        self._keeping = asyncio.get_running_loop().create_task(self._keep(), name="ends")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the hosts go on."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        with contextlib.suppress(StoreUnavailableError):  # it lapses
            await self._repository.lead(TASK, self._holder, 0)

    async def empty(self, repository: SessionRepository | None = None) -> int:
        """Tell of every end that waits (in `repository`; None: the one that leads); how many.

        Raises `UnfinishedError` where the agent manager does not hear.
        """
        repository = repository or self._repository
        told = 0
        # Sessions end all the time: once the agent manager has heard of the last ones, it hears of the next too
        while ended := await repository.clean(self._batch):
            heard = await asyncio.gather(*map(self._agents.release, ended))
            if not all(heard):
                raise UnfinishedError(
                    "the agent manager has not heard of every end, and would not after this: see why it refuses them "
                    "(SESSION_AGENT_MANAGER), then run the same again"
                )
            await repository.told(ended)
            told += len(ended)
            if len(ended) < self._batch:
                break
        return told

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LEASE / 4)
            with contextlib.suppress(StoreUnavailableError):  # once more in time
                await self._repository.lead(TASK, self._holder, LEASE)
