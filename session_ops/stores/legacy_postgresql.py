"""Sessions in PostgreSQL: its clock, jsonb, and how a connection is set up."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from decimal import Decimal
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Text,
    any_,
    bindparam,
    case,
    cast,
    exc,
    func,
    literal_column,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import URL, ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.pool import ConnectionPoolEntry


# A number with a positive exponent, and whatever must not be taken for one: strings.
_POWER = re.compile(r"\d[eE]\+?\d")
_STRING_OR_POWER = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?[eE]\+?\d+')


ABANDONED: Final = "abandoned"
"""In a connection's `info`: its line was ended by `abandon`."""


class PostgreSQL:
    """PostgreSQL 13 or later over psycopg; also what speaks its dialect and has jsonb."""

    name = "postgresql"
    driver = "postgresql+psycopg"
    data_modifying_ctes = True
    one_writer = False
    begin = "BEGIN"

    def now(self) -> ColumnElement[int]:
        """Floored to ms as Redis' clock is; the start of the statement, as in the protocol."""
        return literal_column("CAST(floor(EXTRACT(EPOCH FROM now()) * 1000) AS BIGINT)", BigInteger)

    def greater(self, one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
        """See `Dialect`."""
        return func.greatest(one, other)

    def lesser(self, one: ColumnElement[int], other: ColumnElement[int]) -> ColumnElement[int]:
        """See `Dialect`."""
        return func.least(one, other)

    def data(self) -> ColumnElement[Any]:
        """See `Dialect`."""
        return cast(bindparam("data", type_=Text), JSONB)

    def document(self, text: str) -> str:
        """See `Dialect`. jsonb would make an integer of 1e16; with a decimal place it stays a float."""
        return _STRING_OR_POWER.sub(_spelt_out, text) if _POWER.search(text) else text

    def merged(self, data: ColumnElement[Any]) -> ColumnElement[Any]:
        """See `Dialect`. An attribute that is both set and removed ends removed, as it does in Redis."""
        changes = cast(bindparam("changes", type_=Text), JSONB)
        return type_coerce(_document(data).op("||")(changes), JSONB).op("-")(bindparam("remove", type_=ARRAY(Text)))

    def fits(self, data: ColumnElement[Any], size: int, attributes: int) -> ColumnElement[bool]:
        """See `Dialect`. Most sessions are small, and the length of their text says so."""
        # PostgreSQL writes at least six bytes more per attribute than what `size` counts, and an attribute takes eight
        # or more, so a sum of short texts settles both limits; only what comes near them is measured exactly.
        after = self.merged(data)
        rough = func.octet_length(cast(_document(data), Text)) + func.octet_length(bindparam("changes", type_=Text))
        return case(
            (rough <= literal_column(str(min(size, 8 * attributes))), true()),
            else_=(self._size(after) <= func.greatest(literal_column(str(size)), self._size(data)))
            & (self._count(after) <= func.greatest(literal_column(str(attributes)), self._count(data))),
        )

    def _size(self, data: ColumnElement[Any]) -> ColumnElement[int]:
        # jsonb is written with spaces between its parts; strings keep theirs.
        each = func.jsonb_each(_document(data)).table_valued("key", "value")
        packed = func.regexp_replace(
            cast(each.c.value, Text),
            literal_column(r"""'("(?:[^"\\]|\\.)*")|\s+'"""),
            literal_column(r"'\1'"),
            literal_column("'g'"),
        )
        total = func.sum(func.octet_length(each.c.key) + func.octet_length(packed))
        return select(func.coalesce(total, literal_column("0"))).select_from(each).scalar_subquery()

    def _count(self, data: ColumnElement[Any]) -> ColumnElement[int]:
        keys = func.jsonb_object_keys(_document(data)).table_valued("key")
        return select(func.count()).select_from(keys).scalar_subquery()

    def among(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        """See `Dialect`."""
        return column == any_(bindparam("ids", type_=ARRAY(Text)))

    def chosen(self, column: ColumnElement[str], rows: Select[tuple[str]]) -> ColumnElement[bool]:
        """See `Dialect`. As an array: PostgreSQL may run a subquery in IN again for every row, or join it badly."""
        return column == any_(func.array(rows.scalar_subquery(), type_=ARRAY(Text)))

    def texts(self, values: Sequence[str]) -> Any:
        """See `Dialect`."""
        return list(values)

    async def fetch(self, connection: AsyncConnection, sql: str, parameters: Any) -> Sequence[Sequence[Any]]:
        """See `Dialect`. By the driver itself, in its binary format, where bytes are bytes and not hexadecimal text."""
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            cursor = await driver.cursor(binary=True).execute(sql, parameters)
            return await cursor.fetchall()  # type: ignore[no-any-return]
        except driver.Error as error:
            raise exc.DBAPIError(None, None, error) from error

    def engine_arguments(self, url: URL, statement_timeout: float) -> dict[str, Any]:
        """Timeouts by the connection's options, so that they cost no statement; only a primary will do."""
        milliseconds = int(statement_timeout * 1000)
        given = url.query.get("options", ())
        options = [given] if isinstance(given, str) else list(given)
        options.append(f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}")
        options.append(f"-c idle_in_transaction_session_timeout={4 * milliseconds}")
        return {
            "json_deserializer": _as_it_is,
            "use_native_hstore": False,
            "connect_args": {
                "options": " ".join(options),
                # A replica answers reads that are out of date; libpq then looks at the next host of the URL.
                "target_session_attrs": url.query.get("target_session_attrs", "read-write"),
                "application_name": url.query.get("application_name", "session-ops"),
            },
        }

    def connected(self, connection: Any) -> None:
        """Everything stands in the connection's options."""
        del connection

    def abandon(self, connection: AsyncConnection) -> None:
        """See `Dialect`. Ends the line as if the server had: a cancelled psycopg asks the server over another line, and
        keeps the pool's place for ten seconds where that one is as dead. The server's timeout ends the statement there.
        """
        raw = connection.sync_connection
        if raw is None or raw.closed or raw.invalidated or raw.connection.driver_connection is None:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(raw.connection.driver_connection.pgconn.socket)) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)

    def check_out(self, connection: Any, record: ConnectionPoolEntry) -> None:
        """See `Dialect`. Looks at the socket."""
        if record.info.setdefault("fresh", True):
            record.info["fresh"] = False
            return
        # An idle connection has nothing to read but the server's farewell. Sending a change into it would leave the
        # outcome unknown, where a look at the socket shows that nothing can happen yet.
        server = connection.driver_connection.pgconn
        waiting = poll()
        waiting.register(server.socket, POLLIN)
        if waiting.poll(0):
            record.info["fresh"] = True
            raise exc.DisconnectionError("the server has closed the connection")


def _document(data: ColumnElement[Any]) -> ColumnElement[Any]:
    """`data` as jsonb, which an application's own column need not be: json or text will do."""
    return cast(data, JSONB)


def _as_it_is(text: bytes) -> bytes:
    return text


def _spelt_out(found: re.Match[str]) -> str:
    text = found.group()
    return text if text.startswith('"') else f"{Decimal(text):f}.0"
