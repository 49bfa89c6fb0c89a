"""One line on a terminal that says how far a long command is, and what it waits for."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

REFRESH = 0.2
"""Seconds between two pictures of the line."""


class StatusLine:
    """A `Progress`: step, done, share, rate, time left, and the reason why it waits. Silent where stderr is a file."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._shown = self._stream.isatty()
        self._step = ""
        self._began = self._drawn = 0.0

    def __call__(self, step: str, *, done: int = 0, total: int | None = None, reason: str = "") -> None:
        """See `session_ops.migration.work.Progress`."""
        if not self._shown:
            return
        now = time.monotonic()
        if step != self._step:
            self._step, self._began = step, now
        elif now - self._drawn < REFRESH:
            return
        self._drawn = now
        self._stream.write(f"\r\x1b[K{describe(step, done, total, now - self._began, reason)}")
        self._stream.flush()

    def close(self) -> None:
        """Leave an empty line."""
        if self._shown and self._step:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def describe(step: str, done: int, total: int | None, seconds: float, reason: str) -> str:
    """The line, after `seconds` of the step."""
    parts = [step]
    if done:
        rate = done / seconds if seconds > 0 else 0.0
        parts.append(f"{done:,}" + (f" of {total:,} ({min(1.0, done / total):.0%})" if total else ""))
        parts.append(f"{rate:,.0f}/s")
        if total and rate:
            parts.append(f"{timedelta(seconds=round(max(0, total - done) / rate))} left")
    if reason:
        parts.append(reason)
    return ", ".join(parts)
