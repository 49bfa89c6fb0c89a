"""What the service's callers get: requests, errors and p99 over some seconds, from the hosts' own /metrics.

A step is judged by it: measured before the first flag is changed, and again when every session is where it should be.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

from session_ops.migration.service_latency import METRIC, buckets, page_of, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

ENOUGH: Final = 100
"""Requests, below which two measurements say nothing of each other."""

TOLERATED: Final = 0.001
"""Share of the requests that may fail more than before."""

_COUNT = re.compile(rf"^{METRIC.removesuffix('bucket')}count{{(.*)}} (\S+)$", re.MULTILINE)
_FAILED = re.compile(r'(?:^|,)status="5\d\d"')


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, requests, those of them that were answered with 5xx, and their p99 in ms (None: there were none).
    `silent`: hosts that did not answer, by URL.
    """

    seconds: float
    requests: int
    errors: int
    p99_ms: float | None
    silent: list[str] = []

    @property
    def share(self) -> float:
        """Of requests that failed."""
        return self.errors / self.requests if self.requests else 0.0


class _Counted(msgspec.Struct):
    requests: int
    errors: int
    cumulative: dict[float, int]


async def watch(urls: Sequence[str], seconds: float) -> Traffic:
    """Look twice. A host that has started anew meanwhile counts from its start."""
    before = await _pages(urls)
    await asyncio.sleep(seconds)
    after = await _pages(urls)
    requests = errors = 0
    since: Counter[float] = Counter()
    for one, other in zip(before, after, strict=True):
        if one is None or other is None:
            continue
        began = one if one.requests <= other.requests else _Counted(0, 0, {})
        requests += other.requests - began.requests
        errors += other.errors - began.errors
        since.update({bound: count - began.cumulative.get(bound, 0) for bound, count in other.cumulative.items()})
    p99 = quantile(since)
    return Traffic(
        seconds=seconds,
        requests=requests,
        errors=errors,
        p99_ms=None if p99 is None else round(p99 * 1000, 3),
        silent=[url for url, page in zip(urls, after, strict=True) if page is None],
    )


def worse(before: Traffic, after: Traffic, p99_limit: float) -> list[str]:
    """Why callers are worse off than before the step; nothing where they are not, or too few called to say.

    `p99_limit` in ms: below it a p99 may rise.
    """
    reasons = [f"{url} does not answer" for url in after.silent]
    if min(before.requests, after.requests) < ENOUGH:
        return reasons
    if after.share > before.share + TOLERATED:
        reasons.append(f"{after.share:.2%} of the requests fail, {before.share:.2%} did before the step")
    if after.p99_ms is not None and after.p99_ms > max(p99_limit, before.p99_ms or 0.0):
        reasons.append(f"p99 is {after.p99_ms:g} ms, {before.p99_ms:g} ms before the step; the limit is {p99_limit:g}")
    return reasons


async def _pages(urls: Sequence[str]) -> list[_Counted | None]:
    pages = await asyncio.gather(*(asyncio.to_thread(page_of, url) for url in urls))
    return [None if page is None else _counted(page) for page in pages]


def _counted(page: str) -> _Counted:
    requests = errors = 0
    for labels, value in _COUNT.findall(page):
        count = int(float(value))
        requests += count
        errors += count if _FAILED.search(labels) else 0
    return _Counted(requests, errors, dict(buckets(page)))
