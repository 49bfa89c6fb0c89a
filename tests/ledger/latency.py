"""Percentiles of latencies in bounded memory: a histogram whose buckets grow by 2 %, which is the largest error."""

from __future__ import annotations

import math
from collections import Counter

_GROWTH = math.log(1.02)
_SMALLEST = 1e-5
"""Seconds; nothing over a network is faster."""


class Latency:
    """Counts latencies in seconds."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one."""
        self._buckets[math.ceil(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _GROWTH)] += 1

    def percentile(self, percent: float) -> float | None:
        """The latency in seconds that `percent` of the counted ones do not exceed; None where none was counted."""
        wanted = self._buckets.total() * percent / 100
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return _SMALLEST * math.exp(bucket * _GROWTH)
        return None
