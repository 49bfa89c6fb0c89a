"""The metrics of the service: what there is, as data, and the counting of it."""

from __future__ import annotations

import dataclasses
import functools
from bisect import bisect_left
from typing import TYPE_CHECKING, Literal

from session_ops.shared_values import SharedValues

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["counter", "gauge", "histogram", "info"]

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds. A read takes some 0.3 ms and the deadline of a store is 1 s, so bounds lie around both."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric. `scope` says whom a value speaks for: this `host` (all its workers), or the whole `store`.

    Every host reports the same value of a `store` metric: take max() over hosts, not sum().
    """

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    scope: Literal["host", "store"] = "host"


METRICS: tuple[Metric, ...] = (
    Metric("session_ops_build_info", "info", "version and release that run; always 1", ("version", "release")),
    Metric("session_ops_flag_use_redis_sessions", "gauge", "USE_REDIS_SESSIONS in force on this host: 1 or 0"),
    Metric("session_ops_flag_redis_percent", "gauge", "SESSION_REDIS_PERCENT in force on this host"),
    Metric("session_ops_ready", "gauge", "1 while /readyz answers 200"),
    Metric("session_ops_workers", "gauge", "serving processes of this host"),
    Metric("session_ops_worker_restarts_total", "counter", "serving processes that died and were started again"),
    Metric(
        "session_ops_http_request_duration_seconds",
        "histogram",
        "time from the request's head to its answer, by route template; its count is the number of requests",
        ("method", "route", "status"),
    ),
    Metric("session_ops_generation", "gauge", "generation of Redis in force, as this host knows it"),
    Metric("session_ops_redis_enabled", "gauge", "1 while the control row has Redis on: not off, not given up"),
    Metric("session_ops_lease_valid", "gauge", "1 while this host may answer reads from Redis"),
    Metric("session_ops_automatic_bumps_halted", "gauge", "1 once the hosts have stopped bumping by themselves"),
    Metric("session_ops_bumps_total", "counter", "generations begun by this host itself, by cause", ("cause",)),
    Metric("session_ops_moves_total", "counter", "moves that this host has begun, by the new owner", ("owner",)),
    Metric("session_ops_store_up", "gauge", "1 while the store answers", ("store",)),
    Metric("session_ops_store_operation_duration_seconds", "histogram", "time of an operation", ("store", "operation")),
    Metric(
        "session_ops_store_errors_total",
        "counter",
        "operations of a store that failed, by kind of error",
        ("store", "operation", "kind"),
    ),
    Metric("session_ops_redis_memory_bytes", "gauge", "memory that Redis uses", scope="store"),
    Metric("session_ops_sessions_active", "gauge", "sessions that have not ended", scope="store"),
    Metric(
        "session_ops_sessions_created_total", "counter", "sessions created since the store was opened", scope="store"
    ),
    Metric(
        "session_ops_sessions_expired_total", "counter", "sessions expired since the store was opened", scope="store"
    ),
    Metric(
        "session_ops_sessions_deleted_total", "counter", "sessions deleted since the store was opened", scope="store"
    ),
    Metric("session_ops_sessions_moved_total", "counter", "sessions moved since the store was opened", scope="store"),
    Metric("session_ops_sessions_cleaned_total", "counter", "ended sessions that this host has told and removed"),
    Metric("session_ops_cleanup_runs_total", "counter", "cleanup runs by outcome: done, failed", ("outcome",)),
    Metric("session_ops_touches_total", "counter", "touches sent behind reads, to slide a life on"),
    Metric("session_ops_agent_manager_calls_total", "counter", "calls of the agent manager", ("call", "outcome")),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}

Sample = tuple[str, tuple[str, ...], float]
"""A value measured at the moment of a scrape: metric, label values, value."""


class Histogram:
    """Observations in seconds of one series."""

    __slots__ = ("_view",)

    def __init__(self, view: memoryview[float]) -> None:
        self._view = view

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        view = self._view
        view[bisect_left(BUCKETS, seconds)] += 1
        view[-1] += seconds


class Metrics:
    """Counts for this process, and sums over all processes that share `directory`.

    `process` names the file in it, and is taken up again by a process that replaces another.
    """

    def __init__(self, directory: Path | None = None, process: str = "0") -> None:
        self._values = SharedValues(directory / f"{process}.values" if directory else None)
        self.histogram = functools.cache(self._histogram)
        self._counter = functools.cache(self._counter_view)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add `by` to a counter."""
        self._counter(name, *labels)[0] += by

    def _counter_view(self, name: str, *labels: str) -> memoryview[float]:
        _check(name, labels, "counter")
        return self._values.view((name, *labels), 1)

    def _histogram(self, name: str, *labels: str) -> Histogram:
        _check(name, labels, "histogram")
        return Histogram(self._values.view((name, *labels), len(BUCKETS) + 2))

    def sums(self) -> dict[tuple[str, ...], list[float]]:
        """What all processes have counted, by (metric, label values...)."""
        return self._values.sums()


def _check(name: str, labels: tuple[str, ...], kind: Kind) -> None:
    """A metric that is not in the table, or counted as another kind, is a mistake in the code."""
    metric = BY_NAME[name]
    if metric.kind != kind or len(labels) != len(metric.labels):
        raise ValueError(f"{name} is a {metric.kind} with labels {metric.labels}")
