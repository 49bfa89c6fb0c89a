"""Can this host serve? What /readyz and the metrics say about the stores, with the next step for every "no"."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from session_ops import __version__
from session_ops.errors import SessionOpsError
from session_ops.records import StoreState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.metrics import Sample
    from session_ops.readiness_rules import Rule
    from session_ops.service import SessionService
    from session_ops.settings import Flag

FRESH = 0.5
"""Seconds that a store's state is good for: the probes are open, and must not become a load on the stores."""

PATIENCE = 1.5
"""Seconds that a store gets to say how it is; more than the deadline of its own calls."""


class Report(msgspec.Struct):
    """The answer of /readyz."""

    ready: bool
    reasons: list[str]
    release: str
    flag: dict[str, bool | int]
    stores: dict[str, dict[str, Any]]


class Readiness:
    """Asks the stores, at most twice a second however many ask here."""

    def __init__(
        self,
        service: SessionService,
        redis: Callable[[], Awaitable[StoreState]],
        flag: Callable[[], Flag],
        rule: Rule,
        *,
        release: str,
        workers: int = 1,
        legacy: Callable[[], Awaitable[StoreState]] | None = None,
    ) -> None:
        """`flag` answers the flag in force; `redis` and `legacy` ask the stores how they are, None where there is no
        legacy store; `rule` judges their answers.
        """
        self._service = service
        self._flag = flag
        self._rule = rule
        self._release = release
        self._workers = workers
        self._redis = _Probe(redis)
        self._legacy = _Probe(legacy) if legacy else None

    async def report(self) -> Report:
        """Ready means: the store that is complete can serve."""
        redis = await self._redis.state()
        legacy = await self._legacy.state() if self._legacy else None
        flag = self._flag()
        verdict = self._rule.judge(redis, legacy)
        stores: dict[str, dict[str, Any]] = {"redis": _shown(redis), "legacy": {"state": "absent"}}
        if legacy is not None:
            stores["legacy"] = _shown(legacy)
        return Report(
            ready=verdict.ready,
            reasons=verdict.reasons,
            release=self._release,
            flag={
                "use_redis_sessions": flag.use_redis_sessions,
                "session_redis_percent": flag.session_redis_percent,
            },
            stores=stores,
        )

    async def samples(self) -> list[Sample]:
        """What is measured at the moment of a scrape."""
        report = await self.report()
        redis = await self._redis.state()
        samples: list[Sample] = [
            ("session_ops_build_info", (__version__, self._release), 1),
            ("session_ops_flag_use_redis_sessions", (), int(report.flag["use_redis_sessions"])),
            ("session_ops_flag_redis_percent", (), int(report.flag["session_redis_percent"])),
            ("session_ops_ready", (), int(report.ready)),
            ("session_ops_workers", (), self._workers),
        ]
        samples += [
            ("session_ops_store_up", (name,), int(store["state"] == "up"))
            for name, store in report.stores.items()
            if store["state"] != "absent"
        ]
        memory = redis.details.get("used_memory")
        if memory is not None:
            samples.append(("session_ops_redis_memory_bytes", (), memory))
        samples += self._rule.samples()
        if report.ready:
            samples += await self._statistics()
        return samples

    async def _statistics(self) -> list[Sample]:
        try:
            async with asyncio.timeout(PATIENCE):
                statistics = await self._service.statistics()
        except (SessionOpsError, TimeoutError):
            return []  # session_ops_store_errors_total says so
        return [
            ("session_ops_sessions_active", (), statistics.active),
            ("session_ops_sessions_created_total", (), statistics.created),
            ("session_ops_sessions_expired_total", (), statistics.expired),
            ("session_ops_sessions_deleted_total", (), statistics.deleted),
            ("session_ops_sessions_moved_total", (), statistics.moved),
        ]


class _Probe:
    """One question to a store at a time, and its answer for everybody."""

    def __init__(self, ask: Callable[[], Awaitable[StoreState]]) -> None:
        self._ask = ask
        self._lock = asyncio.Lock()
        self._at = float("-inf")
        self._state = StoreState(state="down", reason="not asked yet", details={})

    async def state(self) -> StoreState:
        async with self._lock:
            if time.monotonic() - self._at > FRESH:
                try:
                    async with asyncio.timeout(PATIENCE):
                        self._state = await self._ask()
                except TimeoutError:
                    self._state = StoreState(state="down", reason="no answer in time", details={})
                self._at = time.monotonic()
            return self._state


def _shown(state: StoreState) -> dict[str, Any]:
    """A store in /readyz: its state, and what was learnt of it. The route is open, so no names of people or secrets."""
    shown: dict[str, Any] = {"state": state.state}
    if state.reason is not None:
        shown["reason"] = state.reason
    shown.update({name: value for name, value in state.details.items() if value is not None})
    return shown
