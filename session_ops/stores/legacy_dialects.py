"""What differs between the databases: their clock, how attributes are merged, and how a connection is set up.

A dialect gives SQL expressions; legacy_statements.py puts them together. Each expression is evaluated by the database
inside the statement that changes the row, so nothing is decided on a copy that somebody else may have changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from session_ops.errors import SettingsError
from session_ops.stores.legacy_postgresql import PostgreSQL
from session_ops.stores.legacy_sqlite import SQLite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import URL, ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.pool import ConnectionPoolEntry


class Dialect(Protocol):
    """A database that can keep sessions. Its expressions bring their parameters: `data`, `changes`, `remove`, `ids`."""

    name: str
    driver: str
    data_modifying_ctes: bool
    """Whether a WITH may hold an UPDATE: `touch` is one statement then."""
    one_writer: bool
    """Whether the database lets one connection write at a time, so that this process queues its own writers
    and lets each that has begun come to its end."""
    begin: str
    """Starts a transaction that is going to write."""

    def now(self) -> ColumnElement[int]:
        """The database's clock in ms; the same wherever it stands in one statement."""
        ...

    def greater(self, one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
        """The greater of two numbers."""
        ...

    def lesser(self, one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
        """The lesser of two numbers."""
        ...

    def data(self) -> ColumnElement[Any]:
        """The parameter `data` as the column keeps it."""
        ...

    def document(self, text: str) -> str:
        """JSON text for the parameters `data` and `changes`, so written that every value comes back as it was."""
        ...

    def merged(self, data: ColumnElement[Any]) -> ColumnElement[Any]:
        """`data` with the attributes of `changes` set and those of `remove` removed."""
        ...

    def fits(self, data: ColumnElement[Any], size: int, attributes: int) -> ColumnElement[bool]:
        """Whether `merged(data)` keeps the limits, or at least exceeds them no more than `data` did before."""
        ...

    def among(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether the column's value is one of `ids`."""
        ...

    def chosen(self, column: ColumnElement[str], rows: Select[tuple[str]]) -> ColumnElement[bool]:
        """Whether the column's value is one of `rows`, which are evaluated once, before anything else."""
        ...

    def texts(self, values: Sequence[str]) -> Any:
        """The value of the parameters `remove` and `ids`."""
        ...

    async def fetch(self, connection: AsyncConnection, sql: str, parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a statement that answers very many rows. Raises as SQLAlchemy does."""
        ...

    def engine_arguments(self, url: URL, statement_timeout: float) -> dict[str, Any]:
        """Arguments of `create_async_engine`; `statement_timeout` in seconds."""
        ...

    def connected(self, connection: Any) -> None:
        """Set up a new connection of the driver."""
        ...

    def abandon(self, connection: AsyncConnection) -> None:
        """End a statement that nobody waits for any more, without another word to the database; where that cannot be
        done, its own timeouts end it.
        """
        ...

    def check_out(self, connection: Any, record: ConnectionPoolEntry) -> None:
        """Raise `sqlalchemy.exc.DisconnectionError` for a pooled connection that has gone stale. No round trip."""
        ...


def dialect_of(url: URL) -> Dialect:
    """The dialect of a database URL. Raises `SettingsError` for one that cannot keep sessions."""
    for dialect in (PostgreSQL(), SQLite()):
        if url.drivername in (dialect.name, dialect.driver):
            return dialect
    raise SettingsError(f"LEGACY_DATABASE_URL: {url.drivername} is not supported; postgresql:// and sqlite:/// are")
