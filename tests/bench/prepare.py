"""Measures how long `migrate prepare` keeps an application waiting: `python -m tests.bench.prepare`.

A table of 1,000,000 sessions in PostgreSQL, one reader and one writer that never rest. Each pause is the time that one
of their statements takes; the longest of a run without prepare is measured first, on the same table and for as long.
The writer is the application's own code until the guard refuses it, and then what the protocol does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time

import psycopg

from session_ops.migration.prepare import Preparation
from session_ops.stores.legacy_database import Database
from tests.bench.report import Figure, publish
from tests.postgresql import PostgreSQLServer

COLUMNS = "id=sid,user_id=uid,data=attributes,expires_at=expires"
DATA = json.dumps({"locale": "en-GB", "csrf": "c" * 43, "cart": ["article-1"], "notes": "x" * 400})
BEFORE = 20.0
"""Seconds of load before prepare begins."""


class Client:
    """Sends one statement after the other and keeps how long each took."""

    def __init__(self, url: str, rows: int, statement: str, instead: str = "") -> None:
        self._url = url
        self._rows = rows
        self._statement = statement
        self._instead = instead
        self.pauses: list[float] = []
        self.refused = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            while True:
                key = {"id": f"{random.randrange(self._rows):032x}"}  # noqa: S311 - load
                began = time.monotonic()
                try:
                    await connection.execute(self._statement.encode(), key)
                except psycopg.errors.IntegrityConstraintViolation:
                    self.refused += 1
                    self._statement, self._instead = self._instead, self._statement
                except psycopg.errors.UndefinedColumn:  # undone
                    self._statement, self._instead = self._instead, self._statement
                self.pauses.append((time.monotonic() - began) * 1000)

    def taken(self) -> list[float]:
        """The pauses since the last call, in ms."""
        taken, self.pauses = self.pauses, []
        return taken


async def fill(url: str, rows: int) -> None:
    """Make the application's table."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("DROP SCHEMA public CASCADE")
        await connection.execute("CREATE SCHEMA public")
        await connection.execute(
            "CREATE TABLE visits (sid varchar(64) PRIMARY KEY, uid text NOT NULL, attributes jsonb NOT NULL,"
            " expires bigint NOT NULL, ip text)"
        )
        await connection.execute(
            "INSERT INTO visits SELECT lpad(to_hex(n), 32, '0'), 'user' || mod(n, 100000), %s::jsonb, 9000000000000"
            " FROM generate_series(0, %s) n",
            (DATA, rows - 1),
        )
        await connection.execute("VACUUM ANALYZE visits")
        await connection.execute("CHECKPOINT")


async def measure(server: PostgreSQLServer, rows: int, figures: dict[str, list[float]]) -> None:
    """One run: load alone, load beside prepare, load beside undo."""
    await fill(server.url, rows)
    reader = Client(server.url, rows, "SELECT uid, attributes, expires FROM visits WHERE sid = %(id)s")
    old = "UPDATE visits SET ip = '10.0.0.1' WHERE sid = %(id)s"
    writer = Client(server.url, rows, old, old.replace("SET", "SET version = version + 1,"))
    load = [asyncio.ensure_future(client.run()) for client in (reader, writer)]
    database = Database(server.url, deadline=10)

    def note(when: str, seconds: float | None = None) -> None:
        for name, client in (("reader", reader), ("writer", writer)):
            pauses = sorted(client.taken())
            figures.setdefault(f"{name}, longest pause {when}", []).append(pauses[-1])
            figures.setdefault(f"{name}, p99.9 {when}", []).append(pauses[int(len(pauses) * 0.999)])
        if seconds is not None:
            figures.setdefault(f"{when.removeprefix('beside ')}, {rows:,} rows", []).append(seconds)

    try:
        preparation = Preparation(database, "visits", COLUMNS, who="bench")
        await asyncio.sleep(BEFORE)
        note("without prepare")
        began = time.monotonic()
        await preparation.run(execute=True)
        note("beside prepare", time.monotonic() - began)
        figures.setdefault("statements of old code refused", []).append(writer.refused)
        began = time.monotonic()
        await preparation.undo(execute=True)
        for task in load:
            if task.done():
                task.result()
        figures.setdefault(f"undo, {rows:,} rows", []).append(time.monotonic() - began)
    finally:
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        await database.close()


GOALS = {"reader, longest pause beside prepare": "<= 500", "writer, longest pause beside prepare": "<= 500"}


def main() -> int:
    """Run it and publish the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    server = PostgreSQLServer(max_wal_size="4GB", shared_buffers="512MB").start()
    figures: dict[str, list[float]] = {}
    try:
        for _ in range(options.runs):
            asyncio.run(measure(server, options.rows, figures))
    finally:
        server.remove()

    def unit(name: str) -> str:
        return "ms" if name.startswith(("reader", "writer")) else "s" if "rows" in name else "count"

    return publish(
        "bench-prepare",
        [Figure(name=name, unit=unit(name), runs=runs, goal=GOALS.get(name)) for name, runs in figures.items()],
    )


if __name__ == "__main__":
    sys.exit(main())
