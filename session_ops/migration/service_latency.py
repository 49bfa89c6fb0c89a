"""The service's 99th percentile as its hosts measure it, read from their /metrics between two looks."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

METRIC: Final = "session_ops_http_request_duration_seconds_bucket"
QUANTILE: Final = 0.99

_TIMEOUT: Final = 1.0
_MOST: Final = 4 * 1_048_576
_LINE = re.compile(rf"^{METRIC}{{(.*)}} (\S+)$", re.MULTILINE)  # a route has braces of its own
_BOUND = re.compile(r'(?:^|,)le="([^"]+)"')


class ServiceLatency:
    """Looks at the hosts behind `urls`. A host that does not answer is left out."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._before: dict[str, Counter[float]] = {}

    async def p99(self) -> float | None:
        """Seconds, of all requests since the last call; None at the first, and where there were none."""
        pages = await asyncio.gather(*(asyncio.to_thread(page_of, url) for url in self._urls))
        since: Counter[float] = Counter()
        for url, page in zip(self._urls, pages, strict=True):
            if page is None:
                continue
            now = buckets(page)
            before = self._before.get(url)
            self._before[url] = now
            if before is not None and all(now[bound] >= count for bound, count in before.items()):
                since.update({bound: now[bound] - before[bound] for bound in now})
        return quantile(since)


def buckets(page: str) -> Counter[float]:
    """The cumulative buckets of all routes together, by their upper bounds."""
    found: Counter[float] = Counter()
    for labels, value in _LINE.findall(page):
        bound = _BOUND.search(labels)
        if bound:
            found[float(bound[1])] += int(float(value))
    return found


def quantile(cumulative: Counter[float]) -> float | None:
    """The bound under which 99 % are; the last finite bound where it is none of them. None without any."""
    bounds = sorted(cumulative)
    if not bounds or not cumulative[bounds[-1]]:
        return None
    wanted = QUANTILE * cumulative[bounds[-1]]
    reached = next(bound for bound in bounds if cumulative[bound] >= wanted)
    return reached if reached != float("inf") or len(bounds) == 1 else bounds[-2]


def page_of(url: str) -> str | None:
    """A host's /metrics; None where it does not answer."""
    if not url.startswith(("http://", "https://")):
        return None
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - the scheme was looked at
            return str(answer.read(_MOST).decode("utf-8", "replace"))
    except (urllib.error.URLError, OSError, ValueError):
        return None
