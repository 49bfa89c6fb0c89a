"""The mover's pace: whom it gives way to, how large its batches are, and what it reads of the service's latency."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from session_ops.migration.service_latency import METRIC, ServiceLatency
from session_ops.migration.throttle import FIRST, LEAST, SMALLEST, Limits, Throttle

if TYPE_CHECKING:
    from collections.abc import Iterator


async def slow() -> float | None:
    return 0.3


async def test_it_gives_way_at_once_says_to_whom_and_comes_back_slowly() -> None:
    throttle = Throttle(Limits(redis=0.05, legacy=0.1))

    await throttle.measured(0.2, 0.01)
    assert throttle.share == 0.5
    assert throttle.reason == "Redis takes 200 ms (limit 50)"
    await throttle.measured(0.01, 0.2)
    assert throttle.share == 0.25
    assert throttle.reason == "the legacy store takes 200 ms (limit 100)"
    await throttle.measured(0.01, 0.01)
    assert throttle.share == 0.3125
    assert throttle.reason == "coming back, 31% of the time"
    for _ in range(20):
        await throttle.measured(0.2, 0.2)
    assert throttle.share == LEAST
    for _ in range(20):
        await throttle.measured(0.01, 0.01)
    assert (throttle.share, throttle.reason) == (1.0, None)


async def test_it_gives_way_to_the_service_where_its_latency_is_known() -> None:
    watching, blind = Throttle(Limits(p99=0.1), slow), Throttle(Limits(p99=None), slow)

    await watching.measured(None, 0.01)
    await blind.measured(None, 0.01)

    assert watching.reason == "the service's p99 is 300 ms (limit 100)"
    assert blind.reason is None


def test_a_batch_is_as_large_as_its_time_and_its_bytes_allow() -> None:
    throttle = Throttle()
    throttle.claimed(0.01, FIRST, FIRST * 600)
    assert throttle.most == 2 * FIRST
    throttle.claimed(0.2, 2 * FIRST, 2 * FIRST * 600)
    assert throttle.most == FIRST
    throttle.claimed(0.01, FIRST, FIRST * 100_000)
    assert throttle.most == 41  # 4 MB
    throttle.refused()
    assert throttle.most == SMALLEST
    throttle.batch = 3
    assert throttle.most == 3


class Pages(BaseHTTPRequestHandler):
    fast = slow = 0

    def do_GET(self) -> None:
        page = "".join(
            f'{METRIC}{{method="GET",route="{route}",status="200",le="{bound}"}} {count}\n'
            for route in ("a", "b")
            for bound, count in (("0.01", self.fast), ("0.5", self.fast + self.slow), ("+Inf", self.fast + self.slow))
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_the_99th_percentile_is_that_of_the_requests_since_the_last_look(host: str) -> None:
    latency = ServiceLatency([host, "http://127.0.0.1:1/metrics", "file:///etc/passwd"])
    Pages.fast, Pages.slow = 0, 1_000
    assert await latency.p99() is None  # the first look: since when nobody knows
    Pages.fast += 1_000
    assert await latency.p99() == 0.01
    Pages.fast, Pages.slow = Pages.fast + 1_000, Pages.slow + 50
    assert await latency.p99() == 0.5
    assert await latency.p99() is None  # no requests
    Pages.fast = Pages.slow = 5  # it was restarted
    assert await latency.p99() is None
