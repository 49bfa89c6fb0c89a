"""The audit: a line per change that an operator makes, each with the hash of the one before. Nothing removes a line.

Lines are appended under a lock on the head, a row that has the number and the hash of the last one. So two operators
stand in the chain one behind the other, and a line that is taken from the end is missed: the head has it still.

What the chain shows: a line that was changed, removed or put in between, and a head that was set back alone. What it
cannot: somebody who may write to the database and computes it all again, from some line to the end and the head with
it. Against that keep a line's number and hash elsewhere; `anchor` is compared with what the table says today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy

from session_ops.errors import StoreUnavailableError
from session_ops.stores.control_schema import FIRST_HASH, audit_hash
from session_ops.stores.legacy_errors import NOT_PREPARED, STORE, as_unprepared
from session_ops.stores.legacy_prepared import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_database import Database, Transaction

_PAGE: Final = 500


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line as it stands. `at`: the database's ms; `detail`: JSON, in it `run` where a run is meant."""

    seq: int
    at: int
    who: str
    what: str
    detail: str
    previous_hash: str
    hash: str

    def told(self) -> dict[str, Any]:
        """The line for a reader, `detail` decoded and `run` beside it. What somebody has put there may be anything."""
        try:
            detail = msgspec.json.decode(self.detail)
        except msgspec.DecodeError:
            detail = self.detail
        run_id = detail.pop("run", None) if isinstance(detail, dict) else None
        return {**msgspec.to_builtins(self), "run": run_id, "detail": detail}


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The last line, as the head has it; number 0: there is none."""

    seq: int
    hash: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`broken`: the number of the first line that is not what it should be, and `reason` why; None: the chain holds."""

    lines: int
    head: Head
    broken: int | None = None
    reason: str | None = None


class Chain:
    """Judges lines in their order."""

    def __init__(self, anchor: Head | None = None) -> None:
        self.last = Head(seq=0, hash=FIRST_HASH)
        self._anchor = anchor

    def judge(self, line: Line) -> tuple[int, str] | None:
        """What is wrong with the next line: its number, and why; None: nothing."""
        wanted = self.last.seq + 1
        if line.seq != wanted:
            return wanted, f"it is missing; the next one is {line.seq}"
        if line.previous_hash != self.last.hash:
            return line.seq, "it does not follow the line before"
        values = {name: getattr(line, name) for name in ("seq", "at", "who", "what", "detail")}
        if line.hash != audit_hash(line.previous_hash, **values):
            return line.seq, "it was changed after it was written"
        if self._anchor is not None and self._anchor.seq == line.seq and self._anchor.hash != line.hash:
            return line.seq, "it is another line than the one whose hash was kept"
        self.last = Head(seq=line.seq, hash=line.hash)
        return None

    def against(self, head: Head) -> tuple[int, str] | None:
        """What is wrong with the end, `head` read after the last line: lines may have come since, none may be gone."""
        if self._anchor is not None and self._anchor.seq > self.last.seq:
            return self.last.seq + 1, f"it is missing; line {self._anchor.seq} was there when its hash was kept"
        if head.seq < self.last.seq:
            return head.seq + 1, f"the head ends with line {head.seq}"
        if head.seq == self.last.seq and head.hash != self.last.hash:
            return head.seq, "the head has another hash for it"
        return None


class Audit:
    """The lines of one legacy store. `who` is this operator: USER@HOST."""

    def __init__(self, database: Database, schema: ControlSchema, who: str) -> None:
        self._database = database
        self._who = who
        driver = database.engine.dialect
        quote = driver.identifier_preparer.format_table
        tables = {"audit": quote(schema.audit), "head": quote(schema.audit_head)}
        now = str(database.dialect.now().compile(dialect=driver))
        locking = "FOR UPDATE" if database.dialect.name == "postgresql" else ""

        def sql(text: str) -> Statement:
            made = sqlalchemy.text(text.format(**tables, now=now, locking=locking))
            return Statement(lambda: made, driver)

        columns = ", ".join(Line.__struct_fields__)
        self._locked = sql("SELECT seq, hash, {now} AS now FROM {head} {locking}")
        self._last = sql("SELECT seq, hash FROM {audit} ORDER BY seq DESC LIMIT 1")
        self._append = sql(
            f"INSERT INTO {{audit}} ({columns}) VALUES (:seq, :at, :who, :what, :detail, :previous_hash, :hash)"
        )
        self._raise = sql("UPDATE {head} SET seq = :seq, hash = :hash")
        self._head = sql("SELECT seq, hash FROM {head}")
        self._page = sql(f"SELECT {columns} FROM {{audit}} WHERE seq > :after ORDER BY seq LIMIT :most")

    async def append(self, transaction: Transaction, what: str, **detail: Any) -> Head:
        """Write a line in the transaction of the change that it tells of: both are there, or neither.

        Call it last: from here to the end of the transaction no other operator gets a line in. Three round trips more.
        """
        heads = await transaction.change(self._locked)
        if not heads:
            raise StoreUnavailableError(STORE, NOT_PREPARED)
        [head] = heads
        before = Head(seq=head.seq, hash=head.hash)
        rows = await transaction.change(self._last)
        # A chain that somebody has broken must not keep an operator from his work: it goes on, and stays broken.
        if rows and rows[0].seq > before.seq:
            before = Head(seq=rows[0].seq, hash=rows[0].hash)
        told = {name: value for name, value in detail.items() if value is not None}
        line: dict[str, Any] = {
            "seq": before.seq + 1,
            "at": head.now,
            "who": self._who,
            "what": what,
            "detail": msgspec.json.encode(told, order="sorted").decode(),
        }
        written = audit_hash(before.hash, **line)
        await transaction.change(self._append, **line, previous_hash=before.hash, hash=written)
        await transaction.change(self._raise, seq=line["seq"], hash=written)
        return Head(seq=line["seq"], hash=written)

    async def add(self, what: str, **detail: Any) -> Head:
        """Write a line by itself, for what was changed elsewhere. Raises `StoreUnavailableError`."""

        async def work(transaction: Transaction) -> Head:
            return await self.append(transaction, what, **detail)

        try:
            return await self._database.change_together(work)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error

    async def check(self, anchor: Head | None = None) -> Verdict:
        """Go through the whole chain."""
        chain, count, wrong = Chain(anchor), 0, None
        async for line in self.lines():
            count += 1
            wrong = wrong or chain.judge(line)
        head = await self.head()
        wrong = wrong or chain.against(head)
        if wrong is None and head.seq > chain.last.seq and not await self._page_after(chain.last.seq):
            wrong = chain.last.seq + 1, f"it is missing, and all behind it; the head ends with line {head.seq}"
        broken, reason = wrong or (None, None)
        return Verdict(lines=count, head=head, broken=broken, reason=reason)

    async def lines(self, after: int = 0) -> AsyncIterator[Line]:
        """The lines behind number `after`, in their order."""
        while rows := await self._page_after(after):
            for row in rows:
                yield Line(**row._asdict())
            after = rows[-1].seq

    async def head(self) -> Head:
        """The head. Raises `StoreUnavailableError`, also where an earlier release has prepared the table."""
        rows = await self._read(self._head)
        if not rows:
            raise StoreUnavailableError(STORE, NOT_PREPARED)
        return Head(**rows[0]._asdict())

    async def _page_after(self, after: int) -> Sequence[Any]:
        return await self._read(self._page, after=after, most=_PAGE)

    async def _read(self, statement: Statement, **parameters: Any) -> Sequence[Any]:
        try:
            return await self._database.read(statement, **parameters)
        except StoreUnavailableError as error:
            raise as_unprepared(error) from error
