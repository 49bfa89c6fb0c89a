"""Measures what the service's memory does over ten million requests: `python -m tests.bench.memory`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.bench.applications import LOAD_CORE, on_core, service
from tests.bench.load import peak
from tests.bench.report import Figure, publish
from tests.bench.store import DATA
from tests.integration.conftest import prepare
from tests.servers import RedisServer

SESSIONS = 10_000
READS_PER_CHANGE = 9
SLICE = 10
"""Seconds between two looks at the memory."""


def measure(first: int, last: int) -> list[Figure]:
    """Resident memory after `first` requests and after `last`, of which every tenth changes a session."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with on_core(LOAD_CORE):
            redis = RedisServer(directory / "redis").start()
        try:
            asyncio.run(prepare(redis))
            with service(directory / "service", redis, DATA, SESSIONS) as ours, on_core(LOAD_CORE):
                gets, updates = ours.requests["get"], ours.requests["update"]
                requests = [
                    (updates if number % (READS_PER_CHANGE + 1) == 0 else gets)[number] for number in range(SESSIONS)
                ]
                done, looks = 0, []
                while done < last:
                    done += peak(ours.port, requests, SLICE)[1]
                    looks.append((done, ours.resident_bytes()))
                    print(f"{done:>12,} requests  {looks[-1][1] / 2**20:8.1f} MiB", flush=True)
        finally:
            redis.stop()
    begin = next(size for number, size in looks if number >= first)
    end = looks[-1][1]
    growth = 100 * (end - begin) / begin
    return [
        Figure(name=f"resident memory after {first:,} requests", unit="MiB", runs=[begin / 2**20]),
        Figure(name=f"resident memory after {last:,} requests", unit="MiB", runs=[end / 2**20]),
        Figure(name=f"growth between {first:,} and {last:,} requests", unit="%", runs=[growth], goal="<= 5"),
    ]


def main() -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=1_000_000)
    parser.add_argument("--last", type=int, default=10_000_000)
    arguments = parser.parse_args()
    return publish("bench-memory", measure(arguments.first, arguments.last))


if __name__ == "__main__":
    sys.exit(main())
