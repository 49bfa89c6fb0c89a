"""`python -m tests.chaos.mover_kills`: the mover is killed at random, many times, while callers use what it moves.

On PostgreSQL, Redis and two service hosts of its own on loopback, whose flags disagree. Each mover is a process of
`session-ops migrate run`, in the direction that chance draws; SIGKILL ends it, and the next one goes on. Checked: what
callers were answered (I1 to I3), and that both stores agree afterwards (I4). Figures go to out/mover-kills.json.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.report import Figure, publish
from tests.integration.migration.application import FAR, Application
from tests.integration.migration.moving import Migration
from tests.integration.migration.test_move_cli import begun, settings_of, until_moving
from tests.integration.service_process import TOKEN, ServiceProcess
from tests.ledger.ledger import Ledger
from tests.ledger.phases import OVERALL
from tests.ledger.sessions import Existing
from tests.linearizability import Rules
from tests.owned import load_functions
from tests.postgresql import PostgreSQLServer
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ledger.report import Report

BATCH = 100
SESSIONS_OF_A_USER = 3
PERCENTS = (0, 30, 70, 100)
LONGEST = 1.5
"""Seconds that a mover lives at most once it moves; at 2,000 sessions a second it is then in the middle of a pass."""


@dataclass
class Killed:
    """What came of it. `at`: what the movers had in work when they died."""

    at: Counter[str] = field(default_factory=Counter)
    again: int = 0
    left: int = 0
    """Sessions that are not where the last run was to bring them."""
    disagreements: list[str] = field(default_factory=list)
    spoilt: set[str] = field(default_factory=set)
    """Sessions that no caller has used and that are not as they were."""


async def kill_movers(
    directory: Path, *, kills: int, sessions: int, rate: float, seed: int, minutes: float = math.inf
) -> tuple[Killed, Report]:
    """The whole of it, on servers in `directory`; after `minutes` with the movers that were killed until then."""
    postgresql, redis = PostgreSQLServer().start(), RedisServer(directory / "redis").start()
    application = Application(postgresql.url, "kills")
    migration = Migration(application, redis)
    hosts: list[ServiceProcess] = []
    try:
        await _open(migration, sessions)
        settings = settings_of(application, redis) | {"SESSION_GENERATION_PREFIX": ""}
        hosts += [
            ServiceProcess(directory / flag, redis, **settings, USE_REDIS_SESSIONS=flag) for flag in ("true", "false")
        ]
        for host in hosts:
            await asyncio.to_thread(host.start)
        ledger = Ledger(
            [host.url for host in hosts],
            TOKEN,
            rate=rate,
            seed=seed,
            rules=Rules(repeated_ends=True, dirty_reads=True),
            existing=_existing(sessions, seed),
        )
        await ledger.start()
        try:
            killed = await _kill(migration, kills, random.Random(seed), minutes)  # noqa: S311  (when, no secret)
        finally:
            await ledger.stop()
        await _judge(migration, killed, ledger.adopted)
        return killed, ledger.report()
    finally:
        for host in hosts:
            host.close()
        await migration.close()
        await application.database.close()
        redis.stop()
        postgresql.remove()


async def _open(migration: Migration, sessions: int) -> None:
    application = migration.application
    await load_functions(migration.server)
    await application.sql(f"CREATE SCHEMA {application.namespace}")
    await application.make()
    await application.sql(
        "INSERT INTO visits (sid, uid, attributes, expires) SELECT 'visit-' || n, 'visitor-' || n / "
        f"{SESSIONS_OF_A_USER}, jsonb_build_object('n', n), {FAR} FROM generate_series(0, {sessions - 1}) n"
    )
    await application.prepare()
    await migration.bump()


def _existing(sessions: int, seed: int) -> Iterator[Existing]:
    firsts = list(range(0, sessions - SESSIONS_OF_A_USER + 1, SESSIONS_OF_A_USER))
    random.Random(seed).shuffle(firsts)  # noqa: S311  (an order, no secret)
    for first in firsts:
        numbers = range(first, first + SESSIONS_OF_A_USER)
        yield Existing(f"visitor-{first // SESSIONS_OF_A_USER}", {f"visit-{n}": {"n": n} for n in numbers})


async def _kill(migration: Migration, kills: int, chance: random.Random, minutes: float) -> Killed:
    killed, until = Killed(), time.monotonic() + 60 * minutes
    environment = settings_of(migration.application, migration.server)
    percent = 0
    while killed.at.total() < kills and time.monotonic() < until:
        percent = chance.choice([other for other in PERCENTS if other != percent])
        await migration.want(percent, on=percent > 0)
        process = begun(environment, "--batch", str(BATCH), "--rate", "2000")
        try:
            # One in five dies before it moves anything: while it starts, or takes the lock
            if chance.random() < 0.2:
                await asyncio.sleep(chance.uniform(0, 1))
                place = "on its way to the first slice"
            else:
                await until_moving(migration, process.pid)
                await asyncio.sleep(chance.uniform(0, LONGEST))
                place = "between two batches"
        finally:
            process.send_signal(signal.SIGKILL)
            status = await asyncio.to_thread(process.wait)
            process.communicate()
        if status != -signal.SIGKILL:
            continue  # it had nothing left to do
        claimed = await migration.sql("SELECT count(*) FROM session_slices WHERE claimed <> '[]'")
        killed.at["with a batch in work" if claimed[0][0] else place] += 1
        if killed.at.total() % 10 == 0:
            print(f"  {killed.at.total()} movers killed: {dict(killed.at)}", flush=True)
    return killed


async def _judge(migration: Migration, killed: Killed, used: set[str]) -> None:
    """Nobody is at work or calls any more: the last run ends what the dead have left."""
    await migration.want(100)
    done = await migration.move()
    again = await migration.sql("SELECT sum(again) FROM session_runs")
    killed.again = int(again[0][0])
    killed.left = (await migration.owners()).get("legacy", 0) + (done.state != "done")
    killed.disagreements = await migration.disagreements()
    rows = await migration.sql(
        "SELECT sid FROM visits WHERE sid LIKE 'visit-%%' AND (deleted OR expires <> "
        f"{FAR} OR attributes <> jsonb_build_object('n', substr(sid, 7)::integer)"
        f" OR uid <> 'visitor-' || substr(sid, 7)::integer / {SESSIONS_OF_A_USER})"
    )
    killed.spoilt = {row[0] for row in rows} - used


def figures(killed: Killed, report: Report) -> list[Figure]:
    """As every measurement gives them."""

    def figure(name: str, value: float, goal: str | None = None, unit: str = "count") -> Figure:
        return Figure(name=name, unit=unit, runs=[value], goal=goal)

    never, whole, kills = "<= 0", report.whole, max(1, killed.at.total())
    return [
        figure("movers killed", killed.at.total()),
        *(figure(f"movers killed {place}", count) for place, count in killed.at.most_common()),
        figure("requests", whole["requests"]),
        figure("acknowledged changes", whole["acknowledged_writes"]),
        figure("failed requests", sum(whole["failed"].values()), never),
        figure("sessions lost", report.lost, never),
        figure("sessions resurrected", report.resurrected, never),
        figure("sessions stale", report.stale, never),
        figure("sessions unread or undecided", report.unread + report.undecided, never),
        figure("sessions put again, per mover killed", killed.again / kills, f"<= {BATCH}"),
        figure("sessions not moved by the last run", killed.left, never),
        figure("sessions on which the stores differ", len(killed.disagreements), never),
        figure("untouched sessions that are not as they were", len(killed.spoilt), never),
        figure("longest silence", whole["silence"].get(OVERALL, 0.0), unit="s"),
        figure("p99", whole["p99_ms"] or 0.0, unit="ms"),
    ]


def main() -> int:
    """Parse, run, print. Exit codes: 0 all held, 1 something did not, 2 usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mover_kills", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second (100)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="fewer kills where it would take longer")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mover-kills-") as directory:
        killed, report = asyncio.run(
            kill_movers(
                Path(directory),
                kills=given.kills,
                sessions=given.sessions,
                rate=given.rate,
                seed=given.seed,
                minutes=given.minutes,
            )
        )
    print(report.table())
    status = publish("mover-kills", figures(killed, report))
    for problem in (*killed.disagreements[:10], *sorted(killed.spoilt)[:10]):
        print(f"NOT OK: {problem}", file=sys.stderr)
    return status if report.checked else 1


if __name__ == "__main__":
    sys.exit(main())
