"""Reading back: what a session is, as every host says it, against what was answered about it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.ledger.archive import Archive, begin_anew, unchanged

if TYPE_CHECKING:
    from tests.ledger.answers import Answer
    from tests.ledger.calls import Calls
    from tests.ledger.judge import Judge
    from tests.ledger.sessions import Tracked
    from tests.ledger.wire import Host

_READERS = 32


class ReadBack:
    """Judges sessions that nobody changes any more. A host that does not answer is asked until `patience` is over."""

    def __init__(self, calls: Calls, judge: Judge, archive: Archive) -> None:
        self.give_up = math.inf
        """When to stop asking hosts that do not answer, on the monotonic clock."""
        self.unread = 0
        self.confirmed = 0
        self._calls = calls
        self._judge = judge
        self._archive = archive

    async def retire(self, tracked: Tracked) -> None:
        """Check a session's whole history, and keep no more than what it is now."""
        last = await self._verified(tracked)
        if last is not None:
            self._archive.keep(tracked, last, dirty=self._judge.rules.dirty_reads)
        self._calls.forget(tracked, "read")

    async def audit(self, tracked: Tracked, value: dict[str, Any] | None) -> None:
        """Look at a session of the archive; one that is not as it was is looked at through every host."""
        tracked.running += 1
        answer = await self._calls.read(tracked, self._calls.any_host())
        tracked.running -= 1
        if not answer.acknowledged:
            self._calls.forget(tracked, "read")
        if tracked.unknown:
            tracked.requests += 1
        elif answer.acknowledged and not unchanged(answer, value):
            self._archive.drop(tracked)
            await self._verified(tracked)
        else:
            begin_anew(tracked, value)

    async def everything(self) -> None:
        """Read the whole archive through every host."""
        queue = deque(self._archive)
        await asyncio.gather(*(self._reader(queue) for _ in range(_READERS)))

    async def _reader(self, queue: deque[tuple[Tracked, dict[str, Any] | None]]) -> None:
        while queue:
            tracked, value = queue.popleft()
            answers = [await self._until_answered(tracked, host) for host in self._calls.hosts]
            self.unread += None in answers
            if tracked.unknown or any(answer is not None and not unchanged(answer, value) for answer in answers):
                await self._verified(tracked)
            else:
                self.confirmed += None not in answers

    async def _verified(self, tracked: Tracked) -> Answer | None:
        """Read a session through every host and check its history: the last answer, None when something is wrong."""
        answers = [await self._until_answered(tracked, host) for host in self._calls.hosts]
        self.unread += None in answers
        return answers[-1] if await self._judge.check(tracked) and None not in answers else None

    async def _until_answered(self, tracked: Tracked, host: Host) -> Answer | None:
        pause = 0.1
        while True:
            answer = await self._calls.read(tracked, host)
            if answer.acknowledged:
                return answer
            if time.monotonic() + pause > self.give_up:
                return None
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)
