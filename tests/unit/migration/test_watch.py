"""What callers get is counted between two looks at the hosts' pages, and compared with before the step."""

from __future__ import annotations

import http.server
import threading
from typing import TYPE_CHECKING, Any

import pytest

from session_ops.migration.service_latency import METRIC
from session_ops.migration.watch import Traffic, watch, worse

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = METRIC.replace("bucket", "count")


def page(good: int, bad: int, slow: int = 0) -> str:
    """`good` requests within 10 ms, `slow` within 250 ms, and `bad` that ended in 503 within 10 ms."""
    lines = []
    for status, quick, total in (("200", good, good + slow), ("503", bad, bad)):
        labels = f'method="GET",route="/v1/sessions/{{session_id}}",status="{status}"'
        for bound, count in (("0.01", quick), ("0.25", total), ("+Inf", total)):
            lines.append(f'{METRIC}{{{labels},le="{bound}"}} {count}')
        lines.append(f"{COUNT}{{{labels}}} {total}")
    return "\n".join(lines) + "\n"


class Host:
    """Answers its pages one after the other."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = host.pages.pop(0).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/metrics"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


async def test_only_what_came_between_the_looks_counts(host: Host) -> None:
    host.pages = [page(1_000, 50, slow=50), page(1_200, 52, slow=60)]

    seen = await watch([host.url], 0.01)

    assert (seen.requests, seen.errors, seen.p99_ms, seen.silent) == (212, 2, 250.0, [])


async def test_a_host_that_started_anew_counts_from_its_start_and_a_silent_one_is_named(host: Host) -> None:
    host.pages = [page(1_000, 50), page(30, 1)]
    gone = "http://127.0.0.1:1/metrics"

    seen = await watch([host.url, gone], 0.01)

    assert (seen.requests, seen.errors, seen.silent) == (31, 1, [gone])


def traffic(requests: int = 1_000, errors: int = 0, p99_ms: float | None = 10.0, **more: Any) -> Traffic:
    return Traffic(seconds=1, requests=requests, errors=errors, p99_ms=p99_ms, **more)


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (traffic(), None),
        (traffic(p99_ms=100.0), None),
        (traffic(p99_ms=250.0), "p99 is 250 ms, 10 ms before"),
        (traffic(errors=1), None),
        (traffic(errors=2), "0.20% of the requests fail, 0.00% did before"),
        (traffic(requests=99, errors=50, p99_ms=5_000.0), None),
        (traffic(requests=0, p99_ms=None, silent=["http://a"]), "http://a does not answer"),
    ],
)
def test_callers_are_worse_off_by_errors_by_a_p99_over_the_limit_and_by_a_host_that_is_silent(
    after: Traffic, word: str | None
) -> None:
    reasons = worse(traffic(), after, 100.0)

    assert reasons == [] if word is None else word in "; ".join(reasons)


def test_what_was_bad_before_the_step_is_not_the_steps_doing() -> None:
    before = traffic(errors=100, p99_ms=500.0)

    assert worse(before, traffic(errors=100, p99_ms=500.0), 100.0) == []
