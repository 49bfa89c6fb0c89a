"""How fast the mover may go: it gives way as soon as somebody would notice it, and says why.

Three things are watched: how long Redis and the legacy store take for a look that does nothing, measured by the mover
itself before every batch, and the 99th percentile of the service, read from the hosts' own /metrics. Over its limit,
the mover's share of the time is halved; under it, it grows by a quarter: so it backs off within a batch or two and
comes back slowly, as TCP does.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LEAST: Final = 0.02
"""Share of the time that the mover takes at least: it never stops by itself, and its reason stays in sight."""

FIRST, SMALLEST, LARGEST_BATCH = 200, 10, 1_000
"""Sessions of a batch."""

TARGET: Final = 0.05
"""Seconds that a claim should take: it holds the locks of its rows for as long, and writers wait for them."""

BYTES: Final = 4 * 1_048_576
"""Of a batch's data, as far as the last one foretells."""

P99_EVERY: Final = 2.0
"""Seconds between two looks at /metrics."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Above these the mover gives way; all in seconds. `p99` None: nobody's is read."""

    redis: float = 0.05
    legacy: float = 0.1
    p99: float | None = None


class Latency(msgspec.Struct, kw_only=True):
    """The worst that was measured, in seconds; None: nothing was."""

    redis: float | None = None
    legacy: float | None = None
    p99: float | None = None


class Throttle:
    """The pace of one mover. `p99` answers the service's 99th percentile in seconds; None: not known just now."""

    def __init__(self, limits: Limits | None = None, p99: Callable[[], Awaitable[float | None]] | None = None) -> None:
        self._limits = limits or Limits()
        self._p99 = p99
        self._p99_at = float("-inf")
        self._p99_seen: float | None = None
        self._begun = time.monotonic()
        self._sessions = 0
        self._worst = Latency()
        self.share = 1.0
        self.size = FIRST
        self.reason: str | None = None
        self.rate: int | None = None
        """Sessions per second at most; None: no limit."""
        self.batch: int | None = None
        """Sessions of a batch at most; None: as many as fit."""

    @property
    def most(self) -> int:
        """Sessions of the next batch."""
        return max(1, min(self.size, self.batch or self.size))

    def claimed(self, seconds: float, sessions: int, size: int, *, more: bool | None = None) -> None:
        """A claim took so long and brought so many sessions of so many bytes. `more`: whether a larger one would have
        found more; None: it would where it brought as many as it might.
        """
        factor = min(2.0, max(0.5, TARGET / max(seconds, 1e-6)))
        grown = (
            self.size * factor if factor < 1 or (sessions >= self.most if more is None else more) else float(self.size)
        )
        if sessions and size:
            grown = min(grown, BYTES * sessions / size)
        self.size = int(min(LARGEST_BATCH, max(SMALLEST, grown)))

    def refused(self) -> None:
        """A claim took longer than the database lets it."""
        self.size = max(SMALLEST, self.size // 4)

    async def measured(self, redis: float | None, legacy: float) -> None:
        """What the stores took just now, in seconds."""
        over = []
        self._worst.redis = _worse(self._worst.redis, redis)
        self._worst.legacy = _worse(self._worst.legacy, legacy)
        if redis is not None and redis > self._limits.redis:
            over.append(f"Redis takes {redis * 1000:.0f} ms (limit {self._limits.redis * 1000:.0f})")
        if legacy > self._limits.legacy:
            over.append(f"the legacy store takes {legacy * 1000:.0f} ms (limit {self._limits.legacy * 1000:.0f})")
        if self._p99 is not None and self._limits.p99 is not None:
            if time.monotonic() - self._p99_at >= P99_EVERY:
                self._p99_seen = await self._p99()
                self._p99_at = time.monotonic()
                self._worst.p99 = _worse(self._worst.p99, self._p99_seen)
            seen = self._p99_seen
            if seen is not None and seen > self._limits.p99:
                over.append(f"the service's p99 is {seen * 1000:.0f} ms (limit {self._limits.p99 * 1000:.0f})")
        self.share = max(LEAST, self.share / 2) if over else min(1.0, self.share * 1.25)
        self.reason = ", ".join(over) or (f"coming back, {self.share:.0%} of the time" if self.share < 1 else None)

    def worst(self) -> Latency:
        """The worst since this was asked last."""
        worst, self._worst = self._worst, Latency()
        return worst

    async def rest(self, worked: float, sessions: int) -> None:
        """Leave to others what the share leaves them, after `worked` seconds with so many sessions."""
        pause = worked * (1 - self.share) / self.share
        if self.rate:
            due = sessions / self.rate
            if due > worked + pause:
                pause = due - worked
                self.reason = self.reason or f"the rate is limited to {self.rate}/s"
        if pause > 0:
            await asyncio.sleep(min(pause, 5.0))


def _worse(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)
