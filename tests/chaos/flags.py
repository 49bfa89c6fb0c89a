"""Flags that are flipped host by host all the while, as in a rollout that never ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from tests.chaos.faults import FLAG
from tests.chaos.fleet import Fleet, FleetError

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator

_PERCENT = (0, 10, 50, 100)


class Flips:
    """Counts what was flipped."""

    def __init__(self) -> None:
        self.done = 0
        self.refused = 0
        """Hosts that were not there to be flipped, because of the fault that was on."""


@contextlib.asynccontextmanager
async def flipping(fleet: Fleet, chance: random.Random, every: float) -> AsyncIterator[Flips]:
    """Give one host after the other another flag, `every` seconds; afterwards all have Redis on, at 100 %."""
    flips = Flips()
    task = asyncio.create_task(_flip(fleet, chance, every, flips))
    try:
        yield flips
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        for host in fleet.hosts("session_service"):
            await fleet.run(host, _set(100))


async def _flip(fleet: Fleet, chance: random.Random, every: float, flips: Flips) -> None:
    while True:
        for host in fleet.hosts("session_service"):
            await asyncio.sleep(every)
            try:
                await fleet.run(host, _set(chance.choice(_PERCENT)))
                flips.done += 1
            except FleetError:
                flips.refused += 1


def _set(percent: int) -> str:
    on = "true" if percent else "false"
    return (
        f"sed -i -e s/^USE_REDIS_SESSIONS=.*/USE_REDIS_SESSIONS={on}/ "
        f"-e s/^SESSION_REDIS_PERCENT=.*/SESSION_REDIS_PERCENT={percent}/ {FLAG}\n"
        "systemctl reload session-service"
    )
