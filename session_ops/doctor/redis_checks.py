"""What one Redis says of itself: whether it serves, has room and keeps what it is given. Every look is a read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from session_ops.doctor.findings import Finding, finding
from session_ops.migration.throttle import Limits
from session_ops.readiness_rules import redis_reasons
from session_ops.stores.replies import LOST, NO_LIBRARY, NOT_PRIMARY
from session_ops.stores.state import NO_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from session_ops.records import StoreState

OLDEST: Final = (7, 0)
"""The release of Redis that the functions were tested with first; Valkey began with 7.2."""

FULL, NEARLY = 0.95, 0.80
"""Shares of maxmemory: at the second there is time to raise it, at the first hardly any."""

FRAGMENTED: Final = 2.0
_SMALL: Final = 256 * 1_048_576
"""Bytes below which the ratio says nothing: an empty Redis has one of ten and more."""

_AWAY: Final = frozenset({"unreachable", "timeout", "name unknown", "connection lost", "tls refused", "not connected"})
_PASSWORD: Final = frozenset({"wrong password", "password required"})


def reached(state: StoreState) -> bool:
    """Whether Redis took the name and the password."""
    return state.state == "up" or state.details.get("keys") is not None or state.details.get("role") is not None


def connection_findings(state: StoreState, address: str) -> Iterator[Finding]:
    """Why it does not serve."""
    reason = state.reason
    if reason in _AWAY:
        yield finding("redis-unreachable", f"Redis at {address}: {reason}")
    elif reason in _PASSWORD:
        yield finding("redis-password", f"Redis at {address}: {reason}")
    elif state.details.get("library") is False or reason == NO_LIBRARY:
        yield finding("functions-missing", "; ".join(redis_reasons(state, address)))
    elif reason == LOST:
        yield finding("generation-lost", f"Redis at {address} has no generation {state.details.get('prefix')}")
    elif reason == NOT_PRIMARY:
        role = state.details.get("role")
        yield finding("redis-not-pinned", f"Redis at {address} ({role}) is not the server of the control row")
    elif reason == "cannot persist":
        yield finding("redis-not-saved", f"Redis at {address} refuses writes: it cannot persist")
    elif reason == "not permitted":
        yield finding("redis-rights-missing", f"Redis at {address}: {reason}")
    elif state.state == "down" and reason != NO_PREFIX:
        yield finding("redis-refuses", f"Redis at {address}: {reason}")


def info_findings(info: Mapping[str, str], address: str) -> Iterator[Finding]:
    """What INFO tells of memory, persistence and version."""
    yield from _memory(info, address)
    if info.get("aof_enabled") == "0":
        yield finding("redis-not-saved", f"Redis at {address} has no append-only file")
    for name in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(name, "ok") != "ok":
            yield finding("redis-not-saved", f"Redis at {address}: {name} is {info[name]}")
    if "valkey_version" not in info and _version(info.get("redis_version", "")) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        yield finding("version-old", f"Redis at {address} is {info.get('redis_version')}, not {wanted} or later")


def latency_findings(name: str, milliseconds: float | None) -> Iterator[Finding]:
    """What took longer than the mover would bear. `name`: redis or legacy."""
    limit = getattr(Limits(), name) * 1000
    if milliseconds is not None and milliseconds > limit:
        yield finding(f"{name}-slow", f"{milliseconds:.0f} ms for a look, {limit:.0f} ms is the limit")


def _memory(info: Mapping[str, str], address: str) -> Iterator[Finding]:
    used, most = _number(info.get("used_memory")), _number(info.get("maxmemory"))
    resident = _number(info.get("used_memory_rss"))
    policy, evicted = info.get("maxmemory_policy", "noeviction"), _number(info.get("evicted_keys"))
    if policy != "noeviction" or evicted:
        yield finding("redis-evicts", f"Redis at {address}: policy {policy}, {evicted:,} keys evicted so far")
    if not most:
        yield finding("redis-no-limit", f"Redis at {address}: {used:,} bytes used, no maxmemory")
    elif used >= NEARLY * most:
        severity: Any = "error" if used >= FULL * most else "warning"
        yield finding("redis-memory", f"Redis at {address}: {used:,} of {most:,} bytes ({used / most:.0%})", severity)
    if used >= _SMALL and resident > FRAGMENTED * used:
        yield finding("redis-fragmented", f"Redis at {address}: {resident:,} bytes held for {used:,}")


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
