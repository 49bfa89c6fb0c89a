"""What a run of the mover is: the home that the stage row wants, the run itself, its slices, and who is at work."""

from __future__ import annotations

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What the stage row wants: the home of every session."""

    use_redis: bool
    percent: int
    canaries: tuple[str, ...] = ()

    @property
    def share(self) -> int:
        """The percentage in force."""
        return self.percent if self.use_redis else 0

    @property
    def ids(self) -> tuple[str, ...]:
        """The canaries in force."""
        return self.canaries if self.use_redis else ()

    @property
    def to_redis(self) -> bool:
        """Whether any session has its home in Redis."""
        return bool(self.share or self.ids)

    @property
    def text(self) -> str:
        """As an operator says it."""
        if not self.to_redis:
            return "every session to the legacy store"
        canaries = f" and {len(self.ids)} canaries" if self.ids and self.share < 100 else ""
        return f"{self.share} % of the sessions{canaries} to Redis, the others to the legacy store"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Counts are those of `COUNTS`, without what slices in work have not added yet. Times in ms."""

    run_id: str
    token: int
    state: str
    reason: str | None
    target: str
    started_at: int
    started_by: str
    ended_at: int | None
    pass_number: int
    next: str
    pass_moved: int
    slices: int
    paused: bool
    rate: int | None
    batch: int | None
    scanned: int
    moved_in: int
    moved_back: int
    again: int
    expired: int
    quarantined: int


class Slice(msgspec.Struct, kw_only=True):
    """A slice in work: ids above `after` up to `upto`. `claimed`: ids that may not have reached Redis."""

    number: int
    holder: str
    until: int
    after: str
    upto: str
    claimed: list[str]
    reason: str | None
    scanned: int
    moved_in: int
    moved_back: int
    again: int
    expired: int
    quarantined: int


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """Who is at work. `until` and `now` are the legacy store's ms."""

    token: int
    holder: str | None
    purpose: str | None
    until: int | None
    now: int


class FencedError(Exception):
    """Somebody else has taken the lock, or the slice: this mover ends, and has changed nothing."""
