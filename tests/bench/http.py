"""Measures the service over HTTP against empty routes and against what people use: `python -m tests.bench.http`.

Every figure is a ratio of two things measured right after one another, several times; the median counts. The servers
have one core; the load and Redis have the other. `--add-to NAME` publishes the figures behind those that an earlier
program has left in out/NAME.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.bench.applications import LOAD_CORE, Application, competitor, on_core, service
from tests.bench.load import latencies, peak, percentile
from tests.bench.report import OUT, Figure, publish
from tests.bench.store import DATA
from tests.integration.conftest import prepare
from tests.servers import ADMINISTRATOR, ADMINISTRATOR_PASSWORD, RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS = 500
SHARE_OF_PEAK = 0.7


@dataclass(frozen=True)
class Rate:
    """Answers per second, and per second of the server's processor: the second does not depend on who else runs."""

    wall: float
    processor: float


def rate(application: Application, kind: str, seconds: float) -> Rate:
    """As many requests as the application answers."""
    before = application.processor_seconds()
    wall, number = peak(application.port, application.requests[kind], seconds)
    return Rate(wall, number / (application.processor_seconds() - before))


@dataclass(frozen=True)
class Pair:
    """Requests of ours against requests of another."""

    name: str
    ours: tuple[Application, str]
    other: tuple[Application, str]
    goal: str

    def figures(self, seconds: float, rounds: int) -> list[Figure]:
        """The ratio of the rates, the same by processor time (both have to reach the goal), and our rate."""
        for side in (self.ours, self.other):
            rate(*side, seconds)
        walls, processors, ours = [], [], []
        for _ in range(rounds):
            one, other = rate(*self.ours, seconds), rate(*self.other, seconds)
            walls.append(one.wall / other.wall)
            processors.append(one.processor / other.processor)
            ours.append(one.wall)
        return [
            Figure(name=self.name, unit="x", runs=walls, goal=self.goal),
            Figure(name=f"{self.name}, per second of processor", unit="x", runs=processors, goal=self.goal),
            Figure(name=f"{self.name}, ours", unit="/s", runs=ours),
        ]


def tails(ours: Application, bare: Application, seconds: float, rounds: int) -> list[Figure]:
    """The 99th percentile at the same share of each one's own peak, found just before."""
    found: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        for name, application in (("bare", bare), ("ours", ours)):
            requests = application.requests["get"]
            highest, _ = peak(application.port, requests, seconds)
            waits = latencies(application.port, requests, SHARE_OF_PEAK * highest, 2 * seconds)
            found[name].append(percentile(waits, 0.99) * 1000)
    share = f"{SHARE_OF_PEAK:.0%} of its peak rate"
    return [
        Figure(
            name=f"p99 of a get at {share} / bare empty route",
            unit="x",
            runs=[one / other for one, other in zip(found["ours"], found["bare"], strict=True)],
            goal="<= 2",
        ),
        Figure(name=f"p99 of a get at {share}", unit="ms", runs=found["ours"]),
        Figure(name=f"p99 of the bare empty route at {share}", unit="ms", runs=found["bare"]),
    ]


@contextlib.contextmanager
def running(directory: Path) -> Iterator[tuple[Application, dict[str, Application]]]:
    """The service and all it is compared with; each has a Redis of its own, or none."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ("ours", "theirs"):
            with on_core(LOAD_CORE):
                server = RedisServer(directory / name).start()
            stack.callback(server.stop)
            servers.append(server)
        asyncio.run(prepare(servers[0]))
        url = f"redis://{ADMINISTRATOR}:{quote(ADMINISTRATOR_PASSWORD)}@127.0.0.1:{servers[1].port}/0"
        ours = stack.enter_context(service(directory / "service", servers[0], DATA, SESSIONS))
        others = {
            name: stack.enter_context(competitor(name, url, DATA, number))
            for name, number in (
                ("bare uvicorn", 0),
                ("Flask-Session", SESSIONS),
                ("django-redis", SESSIONS),
                ("starsessions", SESSIONS),
            )
        }
        yield ours, others


def measure(seconds: float, rounds: int) -> list[Figure]:
    """All figures of the service over HTTP."""
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as (ours, others), on_core(LOAD_CORE):
        bare = others["bare uvicorn"]
        pairs = [
            Pair("HTTP get / empty route of the service", (ours, "get"), (ours, "empty"), ">= 0.6"),
            Pair("HTTP get / bare empty route on uvicorn", (ours, "get"), (bare, "get"), ">= 0.6"),
        ]
        for name, goal in (("Flask-Session", ">= 8"), ("django-redis", ">= 8"), ("starsessions", ">= 6")):
            pairs += [
                Pair(f"HTTP {kind} / {name}", (ours, kind), (others[name], kind), goal) for kind in ("get", "update")
            ]
        figures = [figure for pair in pairs for figure in pair.figures(seconds, rounds)]
        return [*figures, *tails(ours, bare, seconds, rounds)]


def earlier(target: str) -> list[Figure]:
    """What another program has published under this name."""
    rows = json.loads((OUT / f"{target}.json").read_text())
    return [Figure(**{name: row[name] for name in ("name", "unit", "runs", "goal")}) for row in rows]


def main() -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1, help="of each single measurement, at least 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--add-to", metavar="NAME")
    arguments = parser.parse_args()
    before = earlier(arguments.add_to) if arguments.add_to else []
    return publish(arguments.add_to or "bench-http", [*before, *measure(arguments.seconds, arguments.rounds)])


if __name__ == "__main__":
    sys.exit(main())
