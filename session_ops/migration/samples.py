"""Samples of a run: what a mover has done, what it has measured and why it gave way, every few seconds.

They are for whoever looks at the run, now or later, and nothing depends on them: one that cannot be written is left
out, and what it would have told is in the next one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec
import sqlalchemy

from session_ops.errors import StoreUnavailableError
from session_ops.stores.legacy_errors import as_unprepared
from session_ops.stores.legacy_prepared import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from session_ops.migration.throttle import Throttle
    from session_ops.owned_access import OwnedStore

EVERY: Final = 2.0
"""Seconds between two samples of a mover, at the beginning of a run."""

WIDER: Final = 500
"""Samples of a run, after which they come half as often. So a run of an hour has about 1,000, one of a day 3,100 and
one of a month 5,600, and nothing has to be thrown away."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What `mover` did in the `span` ms before `at` (ms). Latencies in us, the worst of that time; `share` in percent
    of the time, `reason` why it is not all of it.
    """

    mover: str
    at: int
    span: int
    moved_in: int
    moved_back: int
    scanned: int
    redis_us: int | None
    legacy_us: int | None
    p99_us: int | None
    share: int
    reason: str | None


class Samples:
    """The table. Raises as `ControlStore` does."""

    def __init__(self, store: OwnedStore) -> None:
        self._database = store.database
        driver = store.database.engine.dialect
        table = driver.identifier_preparer.format_table(store.control_schema.samples)
        now = str(store.database.dialect.now().compile(dialect=driver))

        def sql(text: str) -> Statement:
            made = sqlalchemy.text(text.format(table=table, now=now))
            return Statement(lambda: made, driver)

        columns = ", ".join(Sample.__struct_fields__)
        values = ", ".join("{now}" if name == "at" else f":{name}" for name in Sample.__struct_fields__)
        self._put = sql(f"INSERT INTO {{table}} (run_id, {columns}) VALUES (:run_id, {values}) ON CONFLICT DO NOTHING")
        self._count = sql("SELECT count(*) FROM {table} WHERE run_id = :run_id")
        self._list = sql(f"SELECT {columns} FROM {{table}} WHERE run_id = :run_id ORDER BY at, mover")

    async def put(self, run_id: str, sample: Sample) -> int:
        """Write a sample, its time being the database's; how many the run has. Two round trips."""
        values = msgspec.structs.asdict(sample)
        await self._database.change(self._put, run_id=run_id, **values)
        [(count,)] = await self._database.read(self._count, run_id=run_id)
        return int(count)

    async def of(self, run_id: str) -> list[Sample]:
        """The samples of a run, in their order."""
        try:
            rows = await self._database.read(self._list, run_id=run_id)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error
        return [Sample(**row._asdict()) for row in rows]


class Sampler:
    """Takes the samples of one mover, USER@HOST:PID."""

    def __init__(self, store: OwnedStore, mover: str) -> None:
        self._samples = Samples(store)
        self._mover = mover
        self._since: float | None = None
        self._due = 0.0
        self._before: dict[str, int] = {}

    async def look(self, run_id: str, counts: Mapping[str, int], throttle: Throttle, reason: str | None) -> None:
        """Take a sample if it is time for one; `counts` are those of this mover so far. Never raises for a store."""
        now = time.monotonic()
        if self._since is None:
            self._begin(now, counts)
        if now < self._due:
            return
        self._due = now + EVERY
        worst = throttle.worst()
        done = {name: counts.get(name, 0) - self._before.get(name, 0) for name in ("moved_in", "moved_back", "scanned")}
        sample = Sample(
            mover=self._mover, at=0, span=int((now - (self._since or now)) * 1000), **done,
            redis_us=_microseconds(worst.redis), legacy_us=_microseconds(worst.legacy), p99_us=_microseconds(worst.p99),
            share=round(throttle.share * 100), reason=reason,
        )  # fmt: skip
        try:
            count = await self._samples.put(run_id, sample)
        except StoreUnavailableError:
            return
        self._begin(now, counts)
        self._due = now + EVERY * 2 ** (count // WIDER)

    def _begin(self, now: float, counts: Mapping[str, int]) -> None:
        self._since, self._before = now, dict(counts)
        self._due = now + EVERY


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)
