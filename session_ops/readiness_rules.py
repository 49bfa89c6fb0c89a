"""When a host is ready, and what to do where it is not: one rule where Redis keeps all sessions, one where each session
has its owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from session_ops.stores.legacy_errors import NOT_PREPARED
from session_ops.stores.state import NO_PREFIX

if TYPE_CHECKING:
    from session_ops.fleet import Member
    from session_ops.metrics import Sample
    from session_ops.owned_access import OwnedStore
    from session_ops.records import StoreState

UNPREPARED: Final = frozenset({"schema missing", NOT_PREPARED})
"""Reasons of a legacy store that `migrate prepare` mends."""


class Verdict(NamedTuple):
    """Whether the host can serve, and everything that is wrong, each with its remedy."""

    ready: bool
    reasons: list[str]


class Rule(Protocol):
    """Judges what the stores have said of themselves."""

    def judge(self, redis: StoreState, legacy: StoreState | None) -> Verdict:
        """Whether the store that is complete can serve."""
        ...

    def samples(self) -> list[Sample]:
        """What there is to measure beside the stores."""
        ...


class RedisAlone:
    """Redis keeps all sessions: ready while it can serve. `address` is its HOST:PORT, for the advice."""

    def __init__(self, address: str) -> None:
        self._address = address

    def judge(self, redis: StoreState, legacy: StoreState | None) -> Verdict:
        """See `Rule`."""
        reasons = redis_reasons(redis, self._address)
        ready = not reasons
        if legacy is not None and legacy.state == "down":
            reasons.append(_legacy_reason(legacy))
        return Verdict(ready, reasons)

    def samples(self) -> list[Sample]:
        """See `Rule`."""
        return []


class Owned:
    """Each session has its owner: ready while the legacy store serves, which is complete until the mode is final.

    A dead Redis must not take a fleet out of its load balancer that still serves. But a host that alone cannot reach
    it is better left out: the others can serve what Redis owns.
    """

    def __init__(self, store: OwnedStore, member: Member, address: str) -> None:
        self._store = store
        self._member = member
        self._address = address

    def judge(self, redis: StoreState, legacy: StoreState | None) -> Verdict:
        """See `Rule`."""
        control = self._store.control.current
        if control is not None and control.mode == "final":
            return RedisAlone(self._address).judge(redis, None)
        reasons = []
        if legacy is not None and legacy.state == "down":
            reasons.append(_legacy_reason(legacy))
        if self._member.cut_off:
            reasons.append(
                f"redis: no good answer of the pinned Redis at {self._address}, while other hosts have them: check "
                "REDIS_HOST, REDIS_PORT and this host's link"
            )
        ready = not reasons
        if control is not None and control.redis != "off" and redis.state == "down" and redis.reason != NO_PREFIX:
            reasons += redis_reasons(redis, self._address)
        if self._member.halted:
            reasons.append(
                "redis: three automatic bumps within ten minutes, so the hosts have stopped: find out why Redis comes "
                "and goes, then run `session-ops generation bump --execute`"
            )
        return Verdict(ready, reasons)

    def samples(self) -> list[Sample]:
        """See `Rule`."""
        control = self._store.control.current
        if control is None:
            return []
        leased = self._store.control.leased(control.generation)
        return [
            ("session_ops_generation", (), control.generation),
            ("session_ops_lease_valid", (), int(leased)),
            ("session_ops_redis_enabled", (), int(control.redis == "on")),
            ("session_ops_automatic_bumps_halted", (), int(self._member.halted)),
        ]


def redis_reasons(state: StoreState, address: str) -> list[str]:
    """Why Redis cannot serve, each with what to do about it."""
    details = state.details
    if details.get("library") is False:
        remedy = "there, run `systemctl restart session-functions`"
        return [f"redis: the function library is missing at {address}: {remedy}"]
    if state.state == "up":
        return []
    if details.get("library") and details.get("mode") is None:
        return [_generation_reason(details.get("prefix"), address)]
    return [f"redis: {state.reason} at {address}: check REDIS_HOST, REDIS_PORT, the ACL user and its unit"]


def _legacy_reason(legacy: StoreState) -> str:
    if legacy.reason in UNPREPARED:
        return "legacy: not prepared: run `session-ops migrate prepare`, which shows what it would do"
    return f"legacy: {legacy.reason}: check LEGACY_DATABASE_URL and the database's own log"


def _generation_reason(prefix: str | None, address: str) -> str:
    if not prefix:
        return "redis: no generation is named: set SESSION_GENERATION_PREFIX to the one that `generation open` opened"
    return (
        f"redis: generation {prefix} is not open at {address}: a new Redis wants `session-ops generation open {prefix} "
        "--execute`; one that had it has lost its data, so restore it first"
    )
