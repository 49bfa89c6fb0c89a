"""When Redis last gave this process a good answer, and since when it has given none but bad ones."""

from __future__ import annotations

from session_ops.stores.legacy_steps import clock


class Pulse:
    """Seconds of `clock()`. An answer is good when the pinned server gave it and has the generation key."""

    def __init__(self) -> None:
        self.good_at: float | None = None
        self.good_since: float | None = None
        self.bad_since: float | None = None

    def good(self, sent: float) -> None:
        """A good answer, to what was sent at `sent`."""
        self.good_at = sent
        self.good_since = self.good_since or sent
        self.bad_since = None

    def bad(self) -> None:
        """A bad answer, or none."""
        self.bad_since = self.bad_since or clock()
        self.good_since = None

    @staticmethod
    def age(at: float | None) -> int | None:
        """How long ago, in ms; None for never."""
        return None if at is None else int((clock() - at) * 1000)
