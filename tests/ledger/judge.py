"""Histories are checked in a process of their own: a check that takes long must not look like a silence of a host."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from tests.linearizability import Rules, UndecidedError, Violation, check

if TYPE_CHECKING:
    from tests.ledger.sessions import Tracked

_FIRST = 20
"""Violations that are kept whole, for people; all of them are counted."""


class Judge:
    """Counts what the checks find."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.checked = 0
        self.undecided = 0
        self.found: dict[str, int] = {}
        self.stories: list[str] = []
        self._pool: ProcessPoolExecutor | None = None

    async def check(self, tracked: Tracked) -> bool:
        """Check the history of a session; whether there is nothing wrong with it."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), os.nice, (10,))
        self.checked += 1
        operations = tracked.history.operations(tracked.id)
        running = asyncio.get_running_loop()
        try:
            violation: Violation | None = await running.run_in_executor(self._pool, check, operations, self.rules)
        except UndecidedError as error:
            self.undecided += 1
            self._tell(f"undecided: session {tracked.id[:6]}: {error}")
            return False
        if violation is None:
            return True
        self.found[violation.kind] = self.found.get(violation.kind, 0) + 1
        self._tell(str(violation))
        return False

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _tell(self, story: str) -> None:
        if len(self.stories) < _FIRST:
            self.stories.append(story)
