"""`migrate archive`: the application's table as it stood when it was retired, in one file with a checksum.

Gzipped lines of JSON: first what it is of, then every row with all columns, in the order of the ids, last how many
there were. What is no text is given in hexadecimal. FILE.sha256 is as sha256sum writes it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy

from session_ops.errors import PreconditionError
from session_ops.migration.work import Progress, silent
from session_ops.stores.legacy_prepared import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from session_ops.owned_access import OwnedStore
    from session_ops.stores.legacy_database import Database

FORMAT: Final = 1
PAGE: Final = 500
_LEVEL: Final = 6


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds."""

    file: str
    table: str
    generation: int
    prefix: str | None
    rows: int
    bytes: int
    sha256: str


class Archive:
    """Archives the table of `store`. `database` reads it with time enough."""

    def __init__(self, store: OwnedStore, database: Database, *, progress: Progress = silent) -> None:
        self._store = store
        self._database = database
        self._progress = progress
        driver = database.engine.dialect
        quote = driver.identifier_preparer
        sessions = store.schema.sessions
        self._table = str(quote.format_table(sessions))
        self._key = quote.quote(sessions.c.id.name)

    async def write(self, file: Path) -> Archived:
        """Write FILE and FILE.sha256, readable by this user alone.

        Raises `PreconditionError` where the store is not retired, or a file is there; `StoreUnavailableError`.
        """
        row = await self._store.control_store.read()
        if row.mode != "final":
            raise PreconditionError(f"the mode is {row.mode}: what still changes is not archived; finalize first")
        beside = file.with_name(file.name + ".sha256")
        for each in (file, beside):
            if each.exists():
                raise PreconditionError(f"{each} is there already: archives are not overwritten; name another file")
        partial = file.with_name(file.name + ".partial")
        head = {
            "format": FORMAT,
            "table": self._table,
            "generation": row.generation,
            "prefix": row.prefix,
            "at": row.now,
        }
        rows = 0
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", filename="", compresslevel=_LEVEL, mtime=0) as lines:
                lines.write(msgspec.json.encode(head) + b"\n")
                async for line in self._lines():
                    lines.write(line + b"\n")
                    rows += 1
                    self._progress("archive", done=rows)
                lines.write(msgspec.json.encode({"rows": rows}) + b"\n")
            raw.flush()
            os.fsync(raw.fileno())
        digest = _digest(partial)
        partial.rename(file)
        beside.write_text(f"{digest}  {file.name}\n")
        return check(file)

    async def _lines(self) -> AsyncIterator[bytes]:
        statement = await self._statement()
        page: Sequence[Any] = ()
        after = ""
        while page := await self._database.read(statement, after=after, most=PAGE):
            for row in page:
                yield row.line.encode()
                after = row.id

    async def _statement(self) -> Statement:
        """The rows as JSON, by pages."""
        driver = self._database.engine.dialect
        if self._database.dialect.name == "postgresql":
            document = "CAST(row_to_json(s) AS text)"
        else:
            async with self._database.engine.connect() as connection:
                columns: Any = await connection.exec_driver_sql(f"PRAGMA table_info({self._table})")
                names = [row[1] for row in columns]
            quote = driver.identifier_preparer.quote
            values = (f"CASE typeof({each}) WHEN 'blob' THEN hex({each}) ELSE {each} END" for each in map(quote, names))
            pairs = ", ".join(
                f"'{name.replace(chr(39), chr(39) * 2)}', {value}" for name, value in zip(names, values, strict=True)
            )
            document = f"json_object({pairs})"
        made = sqlalchemy.text(
            f"SELECT {self._key} AS id, {document} AS line FROM {self._table} AS s"
            f" WHERE {self._key} > :after ORDER BY {self._key} LIMIT :most"
        )
        return Statement(lambda: made, driver)


def check(file: Path) -> Archived:
    """What an archive holds, after looking at all of it.

    Raises `PreconditionError` where it is not as it was written.
    """
    beside = file.with_name(file.name + ".sha256")
    try:
        wanted = beside.read_text().split()[0]
        digest = _digest(file)
        if digest != wanted:
            raise PreconditionError(f"{file}: the checksum is not that of {beside.name}: it was changed or cut off")
        with gzip.open(file) as lines:
            head = msgspec.json.decode(next(lines))
            count, last = -1, b""
            for line in lines:
                count, last = count + 1, line
        if head.get("format") != FORMAT or msgspec.json.decode(last) != {"rows": count}:
            raise PreconditionError(f"{file}: its last line does not give the number of its rows ({count})")
    except (OSError, EOFError, IndexError, StopIteration, msgspec.DecodeError) as error:
        raise PreconditionError(f"{file}: no archive that can be read: {error or type(error).__name__}") from error
    return Archived(
        file=str(file), table=head["table"], generation=head["generation"], prefix=head["prefix"], rows=count,
        bytes=file.stat().st_size, sha256=digest,
    )  # fmt: skip


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
