"""Structured logs: one JSON object per line, an event name and fields, for the journal.

Fields carry no secret, no token and no whole session id: `short_id` shortens one.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SHOWN_OF_ID = 6


def configure_logs(level: str) -> None:
    """Send events of at least `level` to stderr as JSON; the standard library's loggers, uvicorn's among them, too."""
    threshold = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Bridge()]
    root.setLevel(max(threshold, logging.WARNING))


def get_logger() -> FilteringBoundLogger:
    """The program's logger."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def short_id(session_id: str) -> str:
    """Enough of an id to follow one session through the log, too little to use it."""
    return session_id[:SHOWN_OF_ID] + "…"


class _Bridge(logging.Handler):
    """Turns a record of the standard library into an event of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = record.exc_info[0].__name__
        structlog.get_logger().log(max(record.levelno, logging.DEBUG), "library_message", **fields)
