"""A task that sleeps until it is woken, works, and never dies of an error."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from session_ops.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Background:
    """Runs `work` whenever it was woken, and every `interval` seconds where one is given."""

    def __init__(self, name: str, work: Callable[[], Awaitable[None]], interval: float | None = None) -> None:
        """`name` stands in the log when the work breaks."""
        self._name = name
        self._work = work
        self._interval = interval
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger()

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    def wake(self) -> None:
        """Ask for one more round of work, soon. Cheap, and may be called before the start."""
        self._woken.set()

    async def stop(self) -> None:
        """Cancel the work where it stands."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - work that breaks once must not end the work for good
                self._log.error(
                    "background_work_failed", work=self._name, error=type(error).__name__, detail=str(error)
                )
                await asyncio.sleep(1)
