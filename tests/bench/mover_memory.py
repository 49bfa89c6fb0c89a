"""Measures what the mover's memory does over ten million rows: `python -m tests.bench.mover_memory`.

The mover, the control tables and the connections are real; the application's rows are made up as they are claimed, and
what is sent to Redis is answered as if it had been written, since nobody's Redis here holds ten million sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from session_ops.stores.ticks import Changes
from tests.bench.report import Figure, publish
from tests.bench.store import DATA
from tests.integration.migration.application import FAR, Application
from tests.integration.migration.moving import Migration
from tests.owned import load_functions
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.stores.layout import Packed

TEXT = msgspec.json.encode(DATA)
_WRITTEN = 2


class SyntheticMoves:
    """The statements of a mover on a table of `rows` rows that is nowhere."""

    def __init__(self, moves: Any, rows: int) -> None:
        self._moves = moves
        self._rows = rows
        self.claimed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._moves, name)

    async def slice(self, transaction: Any, after: str, most: int) -> tuple[str | None, int]:
        """The next `most` numbers."""
        del transaction
        first = int(after or 0)
        last = min(first + most, self._rows)
        return (f"{last:012}" if last > first else None), last - first

    async def odd(self, g: int, after: str, upto: str) -> Sequence[Any]:
        """None is."""
        del g, after, upto
        return ()

    async def claim(
        self, transaction: Any, g: int, within: tuple[str, str], home: Any, most: int
    ) -> tuple[Sequence[Any], str | None]:
        """Rows of 600 bytes, all different."""
        del transaction, g, home
        first, upto = int(within[0] or 0), int(within[1])
        if first < self.claimed:  # another pass finds nothing left
            return [], None
        last = min(first + most, upto)
        self.claimed = last
        rows = [
            (
                f"{n:012}",
                f"user{n // 10}",
                None,
                FAR - n,
                FAR - n,
                FAR - n,
                f"{n:016x}",
                2,
                None,
                b'{"n":%d,' % n + TEXT[1:],
            )
            for n in range(first + 1, last + 1)
        ]
        return rows, None if last == upto else f"{last:012}"


def answered(changes: Changes, partition: int, batch: Sequence[Packed]) -> asyncio.Future[list[Any]]:
    """What `Changes.together` would answer."""
    del changes, partition
    future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    assert b"".join([each.wire for each in batch])
    asyncio.get_running_loop().call_later(0.001, future.set_result, [_WRITTEN] * len(batch))
    return future


def resident() -> int:
    """Bytes of this process in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4_096


async def measure(first: int, last: int) -> list[Figure]:
    """Resident memory after `first` rows and the most between there and `last`."""
    with tempfile.TemporaryDirectory() as name:
        redis = RedisServer(Path(name) / "redis").start()
        migration = Migration(Application(f"sqlite:///{name}/legacy.db", None), redis)
        try:
            await load_functions(redis)
            await migration.open(rows=10)
            await migration.want(100)
            mover = migration.mover()
            rows = SyntheticMoves(mover._moves, last)
            mover._moves = mover._runs._moves = rows
            Changes.together = answered  # type: ignore[method-assign]
            begin, most = 0, 0
            running = asyncio.ensure_future(mover.run())
            shown = first
            while not running.done():
                await asyncio.wait((running,), timeout=0.05)
                if rows.claimed >= first:
                    begin, most = begin or resident(), max(most, resident())
                if rows.claimed >= shown:
                    print(f"{rows.claimed:>12,} rows  {resident() / 2**20:8.1f} MiB", flush=True)
                    shown += last // 10
            outcome = await running
            assert (outcome.state, outcome.moved_in) == ("done", last), outcome
        finally:
            await migration.close()
            redis.stop()
    return [
        Figure(name=f"resident memory of the mover after {first:,} rows", unit="MiB", runs=[begin / 2**20]),
        Figure(name=f"the most of it up to {last:,} rows", unit="MiB", runs=[most / 2**20]),
        Figure(name="growth between them", unit="%", runs=[100 * (most - begin) / begin], goal="<= 10"),
    ]


def main() -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=100_000)
    parser.add_argument("--last", type=int, default=10_000_000)
    arguments = parser.parse_args()
    return publish("bench-mover-memory", uvloop.run(measure(arguments.first, arguments.last)))


if __name__ == "__main__":
    sys.exit(main())
