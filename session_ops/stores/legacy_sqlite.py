"""Sessions in SQLite: its clock, JSON text, and how a connection is set up."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import BigInteger, Text, bindparam, cast, func, literal_column, select

from session_ops.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import URL, ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.pool import ConnectionPoolEntry


class SQLite:
    """SQLite 3.35 or later in a file, for one host."""

    name = "sqlite"
    driver = "sqlite+aiosqlite"
    data_modifying_ctes = False
    one_writer = True
    # A transaction that reads first and then writes fails at once when another writer came between.
    begin = "BEGIN IMMEDIATE"

    def __init__(self) -> None:
        self._busy_timeout = 0

    def now(self) -> ColumnElement[int]:
        """SQLite's clock counts ms; the double that julianday makes of it is exact to 0.05 ms (subsec needs 3.42)."""
        return cast(
            func.round(
                (func.julianday(literal_column("'now'")) - literal_column("2440587.5")) * literal_column("864e5")
            ),
            BigInteger,
        )

    def greater(self, one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
        """See `Dialect`."""
        return func.max(one, other)

    def lesser(self, one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
        """See `Dialect`."""
        return func.min(one, other)

    def data(self) -> ColumnElement[Any]:
        """See `Dialect`."""
        return bindparam("data", type_=Text)

    def document(self, text: str) -> str:
        """See `Dialect`. SQLite keeps text as it is."""
        return text

    def merged(self, data: ColumnElement[Any]) -> ColumnElement[Any]:
        """See `Dialect`. json_patch removes what is set to null; a path cannot name every attribute."""
        return func.session_merge(data, bindparam("changes", type_=Text), bindparam("remove", type_=Text))

    def fits(self, data: ColumnElement[Any], size: int, attributes: int) -> ColumnElement[bool]:
        """See `Dialect`."""
        return func.session_fits(
            data, self.merged(data), literal_column(str(size)), literal_column(str(attributes))
        ) == literal_column("1")

    def among(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        """See `Dialect`."""
        each = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
        return column.in_(select(each.c.value))

    def chosen(self, column: ColumnElement[str], rows: Select[tuple[str]]) -> ColumnElement[bool]:
        """See `Dialect`."""
        return column.in_(rows)

    def texts(self, values: Sequence[str]) -> Any:
        """See `Dialect`."""
        return _encode(list(values)).decode()

    async def fetch(self, connection: AsyncConnection, sql: str, parameters: Any) -> Sequence[Sequence[Any]]:
        """See `Dialect`."""
        return (await connection.exec_driver_sql(sql, parameters)).all()

    def engine_arguments(self, url: URL, statement_timeout: float) -> dict[str, Any]:
        """See `Dialect`. The timeout is how long a writer waits for another process' lock."""
        if url.database in (None, "", ":memory:") or "mode=memory" in str(url):
            raise SettingsError("LEGACY_DATABASE_URL: SQLite needs a file; in memory nothing outlives the process")
        self._busy_timeout = int(statement_timeout * 1000)
        return {"connect_args": {"timeout": statement_timeout}}

    def connected(self, connection: Any) -> None:
        """Write-ahead log, so that readers and the writer do not wait for each other; every commit is on disk."""
        cursor = connection.cursor()
        for pragma in (f"busy_timeout = {self._busy_timeout}", "synchronous = FULL"):
            cursor.execute(f"PRAGMA {pragma}")
        # Refused while another connection is at work; the mode belongs to the file, and that one sets it.
        with contextlib.suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()
        connection.create_function("session_merge", 3, _merge, deterministic=True)
        connection.create_function("session_fits", 4, _fits, deterministic=True)

    def abandon(self, connection: AsyncConnection) -> None:
        """A statement cannot be called back, and one whose rows nobody fetches would keep the writers' lock: its busy
        timeout bounds it.
        """
        del connection

    def check_out(self, connection: Any, record: ConnectionPoolEntry) -> None:
        """A file does not go away."""
        del connection, record


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_names = msgspec.json.Decoder(list[str]).decode


def _merge(data: str, changes: str, remove: str) -> str:
    merged = _decode(data)
    merged.update(_decode(changes))
    for name in _decode_names(remove):
        merged.pop(name, None)
    return _encode(merged).decode()


def _fits(before: str, after: str, size: int, attributes: int) -> bool:
    old, new = _decode(before), _decode(after)
    return _size(new) <= max(size, _size(old)) and len(new) <= max(attributes, len(old))


def _size(data: dict[str, msgspec.Raw]) -> int:
    return sum(len(name.encode()) + len(bytes(value)) for name, value in data.items())
