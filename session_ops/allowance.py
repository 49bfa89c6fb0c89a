"""How often something may be done: a token bucket."""

from __future__ import annotations

import time


class Allowance:
    """So many a second, and as many at once after a second without any."""

    def __init__(self, per_second: float) -> None:
        """`per_second`: at least 1, or nothing is ever allowed."""
        self._per_second = per_second
        self._left = per_second
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether one more is allowed now; it counts as done then."""
        now = time.monotonic()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
