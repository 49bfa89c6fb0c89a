"""How long nobody was answered: the time from a request to the next acknowledgement of its kind.

A silence begins with the first request that is sent after an acknowledgement, and ends with the next acknowledgement.
Where all goes well it is a request's latency; it does not grow because a kind is asked for rarely.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator


class Silence:
    """Follows requests by key (a kind, a host, a session): of each key the silence that lasts now."""

    def __init__(self) -> None:
        self._since: dict[Hashable, float] = {}
        self._running: Counter[Hashable] = Counter()

    def asked(self, key: Hashable, at: float) -> None:
        """A request leaves; `at` in seconds of one clock."""
        self._since.setdefault(key, at)
        self._running[key] += 1

    def failed(self, key: Hashable) -> None:
        """A request ended without an acknowledgement: the silence lasts."""
        self._over(key)

    def acknowledged(self, key: Hashable, at: float) -> float:
        """A request was acknowledged: since when there had been silence."""
        since = self._since.pop(key, at)
        if self._over(key):
            self._since[key] = at
        return since

    def forget(self, key: Hashable) -> float | None:
        """Nobody will ask for this key again: the beginning of the silence that lasts, if one does."""
        self._running.pop(key, None)
        return self._since.pop(key, None)

    def lasting(self) -> Iterator[tuple[Hashable, float]]:
        """The silences that have not ended, each with its beginning."""
        yield from self._since.items()

    def _over(self, key: Hashable) -> int:
        """One request less; those that still run."""
        left = self._running[key] - 1
        if left > 0:
            self._running[key] = left
        else:
            del self._running[key]
        return max(left, 0)
