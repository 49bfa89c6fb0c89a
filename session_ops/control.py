"""A host's copy of the control row, and its lease on Redis (docs/ownership.md, section 8).

An answer of Redis counts only if it arrived within the lease: SESSION_LEASE seconds after the host *sent* the last look
at the control row that was answered with no bump under way. So a bump that waits for one lease knows that nobody reads
the old generation any more, whatever the network does to whom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from session_ops.stores.legacy_steps import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.errors import StoreUnavailableError
    from session_ops.records import Control

MAXIMUM_SKEW: Final = 2_000
"""Milliseconds that the clocks of Redis and of the legacy store may differ: each judges the expiry of what it owns."""


class HostControl:
    """What this process knows of the control row. `lease` is in seconds.

    `on_change` is called with every control row that differs from the one before.
    """

    def __init__(self, lease: float, on_change: Callable[[Control], None] = lambda _: None) -> None:
        self._lease = lease
        self._on_change = on_change
        self._sent = float("-inf")
        self._until = float("-inf")
        self._leased = -1
        self._legacy_ahead: float | None = None
        self._redis_ahead: float | None = None
        self.current: Control | None = None
        self.trouble: StoreUnavailableError | None = None
        """The last look's failure; None once one has succeeded. While it stands nothing is changed that would have to
        be mirrored."""

    def saw(self, control: Control, now: int, sent: float) -> None:
        """Take a look that was sent at `sent` (`clock()`), and answered when the legacy store's clock said `now` (ms).

        Copy and lease are refreshed together, and only by a look that was sent later than the last one.
        """
        self.trouble = None
        if sent <= self._sent:
            return
        self._sent = sent
        self._legacy_ahead = now / 1000 - clock()
        before = self.current
        if before is not None and control.generation < before.generation:
            return  # a look that was overtaken
        if before is not None and before.generation != control.generation:
            self._until = float("-inf")
        if control.closing is None:
            self._until = sent + self._lease
        self.current = control
        self._settle()
        if control != before:
            self._on_change(control)

    def missed(self, error: StoreUnavailableError) -> None:
        """A look has failed."""
        self.trouble = error

    def heard_redis(self, now: int) -> None:
        """Redis' clock says `now` (ms)."""
        self._redis_ahead = now / 1000 - clock()
        self._settle()

    def legacy_now(self) -> int | None:
        """The legacy store's time in ms as last heard, carried on by this host's clock; None before the first look."""
        return None if self._legacy_ahead is None else int((self._legacy_ahead + clock()) * 1000)

    @property
    def skew(self) -> float | None:
        """How far Redis' clock is ahead of the legacy store's, in ms; None while one of them is unknown."""
        if self._redis_ahead is None or self._legacy_ahead is None:
            return None
        return (self._redis_ahead - self._legacy_ahead) * 1000

    def leased(self, generation: int) -> bool:
        """Whether an answer of Redis that has arrived just now counts, where it came from `generation`."""
        return generation == self._leased and clock() < self._until

    def _settle(self) -> None:
        """The generation that a lease may be on: none while the clocks differ too much."""
        skew = self.skew
        agree = skew is None or abs(skew) <= MAXIMUM_SKEW
        self._leased = self.current.generation if agree and self.current is not None else -1

    def final(self, generation: int) -> bool:
        """Whether this host knows that the mode is final, so that Redis needs no lease."""
        current = self.current
        return current is not None and current.mode == "final" and current.generation == generation
