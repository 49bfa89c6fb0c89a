"""When a session ends: the one rule, for every store. functions.lua computes the same inside its atomic steps."""

from __future__ import annotations

STEPS = 20
"""A touch moves the expiry in steps of ttl/20, so that a session that is read all day is written twenty times a day."""


def slide(now: int, created_at: int, ttl: int, max_lifetime: int) -> int:
    """Return the expiry (ms) of a session used at `now`: now + ttl, rounded up to a step, within the maximum lifetime.

    Times in ms, `ttl` and `max_lifetime` (0: none) in seconds. Steps are counted from the session's creation, which
    spreads the expiries of many sessions. The caller keeps the old expiry where that is later.
    """
    step = ttl * 1000 // STEPS
    expires = created_at - (created_at - now - ttl * 1000) // step * step
    if max_lifetime > 0:
        return min(expires, created_at + max_lifetime * 1000)
    return expires
