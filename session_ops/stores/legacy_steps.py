"""The legacy store's side of the ownership protocol: its steps as calls, each one round trip."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from session_ops.errors import OverloadedError, StoreUnavailableError
from session_ops.records import Control, Ended, Record, Row
from session_ops.stores.expiry import slide
from session_ops.stores.legacy_errors import NOT_PREPARED, STORE, as_unprepared
from session_ops.stores.legacy_mirror import absent_parameters
from session_ops.stores.legacy_owned import CONTROL, OwnedStatements
from session_ops.stores.legacy_rows import bucket_of, to_ended, to_session
from session_ops.stores.legacy_statements import PARTS
from session_ops.stores.looks import Looks
from session_ops.stores.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Protocol

    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_database import Database, Transaction
    from session_ops.stores.legacy_schema import Schema

    class Observer(Protocol):
        """Who learns of the control row from every look at it, and of the looks that failed."""

        def saw(self, control: Control, now: int, sent: float) -> None:
            """The control row as it was after `sent` (seconds of `clock`), when the database's clock said `now`."""
            ...

        def missed(self, error: StoreUnavailableError) -> None:
            """The database did not answer."""
            ...


_CONTROL_COLUMNS: Final = len(CONTROL) + 1
_FIRST_OF_ROW: Final = _CONTROL_COLUMNS + 1
_FIRST_OWNED: Final = len(PARTS)

_decode_ids = msgspec.json.Decoder(list[str]).decode


clock = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds of a clock that runs on while the machine is suspended: leases are measured by it."""


class Look(NamedTuple):
    """What GET answers: the control row, the session's row if there is one, and the database's time (ms)."""

    control: Control
    row: Row | None
    now: int


class LegacySteps:
    """The steps. Every look at the control row is passed on to the `observer`, with the time when it was sent."""

    def __init__(
        self,
        database: Database,
        schema: Schema,
        control: ControlSchema,
        observer: Observer,
        *,
        ttl: int,
        max_lifetime: int,
        margin: int,
    ) -> None:
        """`ttl` and `max_lifetime` (0: none) in seconds; `margin` is how long an ended session is kept, in ms."""
        self._database = database
        self._observer = observer
        self._dialect = database.dialect
        self._ttl = ttl
        self._max_lifetime = max_lifetime
        self._statements = OwnedStatements(
            schema,
            control,
            database.dialect,
            database.engine.dialect,
            ttl=ttl,
            max_lifetime=max_lifetime,
            margin=margin,
        )
        self._mirror = Mirror(database, self._statements.apply)
        self._looks: Looks[Look] = Looks(self._get)
        self._seen: tuple[Sequence[Any], Control] | None = None

    async def get(self, session_id: str) -> Look:
        """GET. Shares its statement, and so its round trip, with others of the moment."""
        return await self._looks.add(session_id)

    async def _get(self, ids: Sequence[str]) -> dict[str, Look]:
        rows, sent = await self._look(self._statements.get, ids=self._dialect.texts(ids))
        control, now = self._control(rows[0]), rows[0][_CONTROL_COLUMNS]
        self._observer.saw(control, now, sent)
        seen = dict.fromkeys(ids, Look(control, None, now))
        for answer in rows:
            if answer[_FIRST_OF_ROW] is not None:
                row = to_row(answer[_FIRST_OF_ROW:], now)
                seen[row.session.id] = Look(control, row, now)
        return seen

    async def control(self) -> Control:
        """The control row alone, past whatever the sessions' statements wait for: the lease hangs on it."""
        rows, sent = await self._look(self._statements.control, read=self._database.read_apart)
        control = self._control(rows[0])
        self._observer.saw(control, rows[0][_CONTROL_COLUMNS], sent)
        return control

    async def now(self) -> int:
        """The database's time in ms."""
        rows, _ = await self._look(self._statements.control)
        return int(rows[0][_CONTROL_COLUMNS])

    async def insert(self, new: dict[str, Any], owner: str, g: int) -> Row | None:
        """INSERT; None where the control row does not allow it, or the id is in use. `new`: see `insert_parameters`."""
        rows = await self._database.change(self._statements.insert, owner=owner, g=g, **new)
        return to_row(rows[0]) if rows else None

    async def claim(self, session_id: str, g: int) -> Row | None:
        """CLAIM; None where there was nothing to give away."""
        rows = await self._database.change(self._statements.claim, id=session_id, g=g)
        return to_row(rows[0]) if rows else None

    async def write(self, row: Row, g: int, *, data: str, revision: str) -> Row | None:
        """CAS of the data (a JSON object); None where the row is not as it was seen."""
        document = self._dialect.document(data)
        return await self._cas(self._statements.write, row, g, data=document, revision=revision)

    async def touch(self, row: Row, g: int) -> Row | None:
        """CAS of the expiry alone; None where the row is not as it was seen."""
        return await self._cas(self._statements.touch, row, g)

    def touch_due(self, row: Row) -> bool:
        """Whether a touch of the row that was looked at would move its expiry: once per step of ttl/20."""
        session = row.session
        return slide(row.now, session.created_at, session.ttl or self._ttl, self._max_lifetime) > session.expires_at

    async def end(self, row: Row, g: int) -> bool:
        """CAS to deleted; False where the row is not as it was seen."""
        rows = await self._database.change(self._statements.end, id=row.session.id, seen=row.session.version, g=g)
        return bool(rows)

    async def apply(self, record: Record, g: int) -> bool:
        """APPLY; whether the row has it now. Shares its statement, and so its round trip, with others of the moment."""
        return await self._mirror.add(record, g)

    async def apply_absent(self, record: Record, g: int) -> bool:
        """APPLY that makes the row where it is missing, on the way back from final."""
        parameters = absent_parameters(record, self._dialect)
        return bool(await self._database.change(self._statements.apply_absent, g=g, **parameters))

    async def lapsed(self, g: int, most: int) -> list[Row]:
        """LAPSED."""
        return [to_row(row) for row in await self._database.read(self._statements.lapsed, g=g, most=most)]

    async def give(self, row: Row, g: int) -> list[Ended]:
        """GIVE; [] where the row is not as it was seen."""
        session = row.session
        return to_ended(await self._database.change(self._statements.give, id=session.id, seen=session.version, g=g))

    async def over(self, g: int, most: int) -> list[Row]:
        """OVER."""
        return [to_row(row) for row in await self._database.read(self._statements.over, g=g, most=most)]

    async def purge(self, row: Row) -> bool:
        """PURGE; False where the row is not as it was seen."""
        session = row.session

        async def work(transaction: Transaction) -> bool:
            gone = await transaction.change(self._statements.purge, id=session.id, seen=session.version)
            if gone:
                await transaction.change(self._statements.count_purged)
            return bool(gone)

        return await self._database.change_together(work)

    def insert_parameters(
        self, session_id: str, user_id: str, agent_id: str | None, ttl: int | None, *, data: str, revision: str
    ) -> dict[str, Any]:
        """What INSERT is told of a new session; `data` is a JSON object."""
        return {
            "id": session_id,
            "user_id": user_id,
            "agent_id": agent_id,
            "ttl": ttl,
            "data": self._dialect.document(data),
            "revision": revision,
            "bucket": bucket_of(session_id),
        }

    async def _cas(self, statement: Any, row: Row, g: int, **written: Any) -> Row | None:
        rows = await self._database.change(statement, id=row.session.id, seen=row.session.version, g=g, **written)
        return to_row(rows[0]) if rows else None

    async def _look(
        self, statement: Any, *, read: Callable[..., Awaitable[Sequence[Any]]] | None = None, **parameters: Any
    ) -> tuple[Sequence[Any], float]:
        sent = clock()
        try:
            rows = await (read or self._database.read)(statement, **parameters)
        except OverloadedError:
            raise  # of this process' making: it says nothing of the database
        except StoreUnavailableError as error:
            self._observer.missed(error)
            raise as_unprepared(error) from error
        if not rows:
            raise StoreUnavailableError(STORE, NOT_PREPARED)
        return rows, sent

    def _control(self, answer: Sequence[Any]) -> Control:
        """The control row; it hardly ever changes, so the one before is kept."""
        columns = answer[:_CONTROL_COLUMNS]
        if self._seen is None or self._seen[0] != columns:
            *fields, canaries = columns
            made = Control(**dict(zip(CONTROL, fields, strict=True)), canaries=frozenset(_decode_ids(canaries)))
            self._seen = (columns, made)
        return self._seen[1]


def to_row(columns: Sequence[Any], now: int = 0) -> Row:
    """The row in what a step answers: `PARTS`, then `OWNED`. `now` (ms) judges its expiry."""
    owner, generation, deleted, told_at = columns[_FIRST_OWNED:]
    session = to_session(columns[:_FIRST_OWNED])
    ended = bool(told_at) or session.expires_at <= now
    return Row(session=session, owner=owner, generation=generation, deleted=bool(deleted), ended=ended, now=now)
