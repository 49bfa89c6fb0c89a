"""Does the legacy database answer?"""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from session_ops.errors import SettingsError
from session_ops.records import StoreState

DEADLINE = 1.0
"""Seconds, the connection included."""

_ASYNC_DRIVERS = {"postgresql": "postgresql+psycopg", "sqlite": "sqlite+aiosqlite"}


class LegacyProbe:
    """Asks `SELECT 1` over a connection of its own."""

    def __init__(self, url: str) -> None:
        """Raises `SettingsError` when `url` is none or its driver is not installed; never repeats it."""
        try:
            parsed = make_url(url)
            if parsed.drivername in _ASYNC_DRIVERS:
                parsed = parsed.set(drivername=_ASYNC_DRIVERS[parsed.drivername])
            self._engine = create_async_engine(parsed, poolclass=NullPool)
        except (ArgumentError, NoSuchModuleError, ImportError, SQLAlchemyError):
            raise SettingsError("LEGACY_DATABASE_URL: must be an SQLAlchemy URL with an installed driver") from None

    async def __call__(self) -> StoreState:
        """The database's state within the deadline. Never raises; the reason is the error's class, without the URL."""
        try:
            async with asyncio.timeout(DEADLINE), self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except TimeoutError:
            return StoreState(state="down", reason="no answer within 1 s", details={})
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            return StoreState(state="down", reason=type(cause).__name__, details={})
        return StoreState(state="up", reason=None, details={})
