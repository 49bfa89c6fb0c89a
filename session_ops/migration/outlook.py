"""`migrate plan`: what a migration would find and what it would take, from reading alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops.migration.quarantine import Broken, judge
from session_ops.migration.work import Progress, silent
from session_ops.stores.legacy_columns import read_columns
from session_ops.stores.legacy_database import Database
from session_ops.stores.legacy_moves import Moves
from session_ops.stores.legacy_schema import Schema
from session_ops.stores.legacy_statements import PARTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.migration.run_records import Target
    from session_ops.owned_access import OwnedStore
    from session_ops.settings import Settings

DEADLINE: Final = 600.0
"""Seconds for one statement: what only reads is not bound to the lease (docs/ownership.md, section 2)."""

OVERHEAD: Final = 500
"""Bytes that a session takes in Redis beside its attributes: key, bookkeeping, listpack, indexes. On Redis 7.0 it was
434 without attributes, 450 with 82 bytes of them and 548 with 560 (20,000 sessions of 7,000 users, 3,000 agents)."""

RATE: Final = 8_000
"""Sessions per second of one mover, where no run has shown another: a guess."""

HOUR: Final = 3_600_000
EXPIRY: Final = (("1 hour", HOUR), ("1 day", 24 * HOUR), ("7 days", 168 * HOUR), ("30 days", 720 * HOUR))
LATER: Final = "later"

_PAGE: Final = 1_000
_DATA: Final = PARTS.index("data")
_EXPIRES: Final = PARTS.index("expires_at")


class Moving(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would move now."""

    rows: int
    expired: int
    to_redis: int
    to_legacy: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What there is. Sizes in bytes, of the attributes as JSON; `expiry`: live sessions by the time they have left."""

    target: str
    rows: int
    live: int
    deleted: int
    expired: int
    in_redis: int
    to_redis: int
    to_legacy: int
    bytes: int
    largest: int
    expiry: dict[str, int]
    broken: dict[str, int]
    broken_ids: dict[str, list[str]]
    """Of each reason the first ten."""
    seconds: float
    """What moving them is expected to take, at `rate` sessions per second."""
    rate: float
    memory_needed: int
    """Bytes that all live sessions of the target would take in Redis."""
    used_memory: int | None
    maxmemory: int | None
    """None: Redis was not asked; 0: no limit."""
    fits: bool | None


class Outlook:
    """Reads an application's table with time enough, and Redis' figures. Changes nothing."""

    def __init__(self, settings: Settings, store: OwnedStore) -> None:
        self._settings = settings
        self._store = store

    async def moves(self, target: Target) -> Moving:
        """How many sessions a run would move: one statement that reads the whole table."""
        control = await self._store.control_store.read()
        database, moves = self._open()
        try:
            row = await moves.counts(control.generation, target.share, target.ids)
        finally:
            await database.close()
        return Moving(rows=row.all_rows, expired=row.expired, to_redis=row.to_redis, to_legacy=row.to_legacy)

    async def plan(self, target: Target, *, rate: float | None = None, progress: Progress = silent) -> Plan:
        """Look at every row as the mover will. `rate`: sessions per second that an earlier run has shown."""
        control = await self._store.control_store.read()
        await self._store.steps.control()
        state = await self._store.describe_redis()
        seen = _Seen(target, control.generation, control.now)
        database, moves = self._open()
        try:
            total = await moves.rows()
            rows = await moves.page("", _PAGE)
            while rows:
                seen.take(rows)
                progress("plan", done=seen.counts["rows"], total=total)
                rows = await moves.page(rows[-1][0], _PAGE)
        finally:
            await database.close()
        used, most = state.details.get("used_memory"), state.details.get("maxmemory")
        return seen.plan(rate or RATE, used, most)

    def _open(self) -> tuple[Database, Moves]:
        settings = self._settings
        database = Database(settings.legacy_database_url, deadline=DEADLINE, pool_size=1)
        schema = Schema(settings.legacy_table, read_columns(settings.legacy_columns))
        return database, Moves(database, schema, self._store.control_schema)


class _Seen:
    """What the rows so far add up to."""

    def __init__(self, target: Target, generation: int, now: int) -> None:
        self._target, self._generation, self._now = target, generation, now
        self._canaries = frozenset(target.ids)
        self.counts: Counter[str] = Counter()
        self._expiry: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self._ids: dict[str, list[str]] = {}

    def take(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self.counts["rows"] += 1
            expires = row[_EXPIRES]
            if row.over:
                self.counts["deleted"] += 1
            elif expires is not None and expires <= self._now:
                self.counts["expired"] += 1
            else:
                self._live(row, expires)

    def _live(self, row: Any, expires: int | None) -> None:
        counts = self.counts
        counts["live"] += 1
        judged = judge(row[: len(PARTS)]) if expires is not None and not row.large else None
        if judged is None or isinstance(judged, Broken):
            reason = "no expiry" if expires is None else "too large" if judged is None else judged.reason
            self._broken[reason] += 1
            ids = self._ids.setdefault(reason, [])
            if len(ids) < 10:
                ids.append(row[0])
            return
        size = len(row[_DATA])
        counts["bytes"] += size
        counts["largest"] = max(counts["largest"], size)
        left = (expires or 0) - self._now
        self._expiry[next((name for name, limit in EXPIRY if left <= limit), LATER)] += 1
        home = row[0] in self._canaries or row.part < self._target.share
        there = row.at == "redis" and row.g == self._generation
        counts["in_redis"] += there
        counts["to_redis"] += home and not there
        counts["to_legacy"] += there and not home
        if home:
            counts["memory"] += OVERHEAD + size

    def plan(self, rate: float, used: int | None, most: int | None) -> Plan:
        counts = self.counts
        moving = counts["to_redis"] + counts["to_legacy"]
        coming = counts["memory"] * counts["to_redis"] // max(1, counts["to_redis"] + counts["in_redis"])
        fits = None if used is None or most is None else most == 0 or used + coming <= most
        return Plan(
            target=self._target.text,
            **{name: counts[name] for name in ("rows", "live", "deleted", "expired", "in_redis", "to_redis",
                                               "to_legacy", "bytes", "largest")},
            expiry={name: self._expiry[name] for name in (*(name for name, _ in EXPIRY), LATER)},
            broken=dict(self._broken.most_common()),
            broken_ids=self._ids,
            seconds=round(moving / rate, 1),
            rate=rate,
            memory_needed=counts["memory"],
            used_memory=used,
            maxmemory=most,
            fits=fits,
        )  # fmt: skip
