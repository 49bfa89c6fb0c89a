"""Steps that go through the rows page by page: short statements, and half of the time left to everybody else."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from session_ops.migration.plan import Step
    from session_ops.migration.work import Work

TARGET: Final = 0.03
"""Seconds that a page should take: it holds the locks of its rows for as long, and a writer may wait for them."""

SHARE: Final = 0.5
"""Of the time, so much is spent in the database; the rest is for others."""

_HALF: Final = "half of the time is left to others"
_SMALLEST, _FIRST, _LARGEST = 20, 200, 5_000
# Between two rounds over the table, while rows that somebody has locked are left.
_AGAIN: Final = 0.2


class Pace:
    """How large the next page is, and how long to rest before it."""

    def __init__(self) -> None:
        self.most = _FIRST

    def took(self, seconds: float) -> float:
        """Take note of how long a page took; returns the seconds to rest."""
        factor = min(2.0, max(0.5, TARGET / max(seconds, 1e-6)))
        self.most = int(min(_LARGEST, max(_SMALLEST, self.most * factor)))
        return seconds * (1 - SHARE) / SHARE


async def fill(work: Work, step: Step, total: int | None) -> int:
    """Run a step of the kind `fill`: go once through the rows that are not filled; returns how many it met.

    Those that somebody has locked are left. Interrupted anywhere, the next run goes on with what is left.
    """
    first, following, update = step.sql
    met, pace, rows = 0, Pace(), await work.rows(_sized(first, _FIRST))
    while rows:
        began = time.monotonic()
        await work.rows(update, first=rows[0][0], last=rows[-1][0])
        met += len(rows)
        rest = pace.took(time.monotonic() - began)
        work.progress(step.name, done=met, total=total, reason=_HALF)
        await asyncio.sleep(rest)
        rows = await work.rows(_sized(following, pace.most), after=rows[-1][0])
    return met


async def finish(work: Work, step: Step) -> None:
    """Run a step of the kind `finish`: fill until every row is."""
    while await fill(work, step, None) and await work.rows(_sized(step.sql[0], 1)):
        work.progress(step.name, reason="waiting for rows that somebody has locked")
        await asyncio.sleep(_AGAIN)


async def empty(work: Work, step: Step) -> None:
    """Run a step of the kind `empty`: the rows it means are removed."""
    delete, left = step.sql
    removed, pace = 0, Pace()
    while True:
        began = time.monotonic()
        rows = await work.rows(_sized(delete, pace.most))
        removed += len(rows)
        work.progress(step.name, done=removed, reason=_HALF)
        if not rows and not await work.rows(left):
            return
        await asyncio.sleep(pace.took(time.monotonic() - began) if rows else _AGAIN)


def _sized(sql: str, most: int) -> str:
    # In the text, where the planner sees how few rows are asked for.
    return sql.replace(":most", str(most))
