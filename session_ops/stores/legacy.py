"""Sessions in SQL: the legacy store, on PostgreSQL or SQLite."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Final, cast

from session_ops.errors import (
    InvalidSessionError,
    SessionExistsError,
    StoreUnavailableError,
)
from session_ops.limits import (
    Limits,
    check_id,
    check_owner,
    check_page,
    check_ttl,
    encode_attributes,
    is_id,
)
from session_ops.records import Page, Session, StoreState
from session_ops.stores.legacy_ends import count, take
from session_ops.stores.legacy_rows import (
    bucket_of,
    make_cursor,
    name_list,
    read_cursor,
    to_changed,
    to_object,
    to_session,
    with_data,
)
from session_ops.stores.legacy_schema import Columns, Schema
from session_ops.stores.legacy_sliding import LegacySliding
from session_ops.stores.legacy_statements import Statements
from session_ops.stores.legacy_writes import Writes, draw_revision, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from session_ops.records import Changed, Ended, NewSession, Statistics
    from session_ops.stores.contract import Order
    from session_ops.stores.control_schema import ControlSchema
    from session_ops.stores.legacy_database import Database

_MARGIN: Final = 300
"""Seconds that an ended row outlives its session at least, as in Redis (protocol, section 2)."""

# Sessions that one statement of `delete_user` ends: it holds their locks, and has to end within the statement timeout.
_END_AT_ONCE: Final = 200


class LegacySessionRepository:
    """`SessionRepository` on a SQL database. `ttl`, `max_lifetime` (0: none) and `cleanup_interval` are in seconds.

    A change that is refused (not found, conflict, too large) takes a second round trip to learn why; on SQLite, where
    a round trip is a call inside this process, so does a touch that is due.
    """

    def __init__(
        self,
        database: Database,
        *,
        table: str = "sessions",
        columns: Columns | None = None,
        ttl: int = 86_400,
        max_lifetime: int = 0,
        cleanup_interval: int = 3_600,
        limits: Limits | None = None,
        control: ControlSchema | None = None,
    ) -> None:
        """With `control`, rows that Redis owns in the generation in force are left alone by cleanup."""
        self._database = database
        self._limits = limits or Limits()
        self._schema = Schema(table, columns)
        self._statements = Statements(
            self._schema,
            database.dialect,
            database.engine.dialect,
            ttl=ttl,
            max_lifetime=max_lifetime,
            margin=max(_MARGIN, 2 * cleanup_interval) * 1000,
            limits=self._limits,
            control=control,
        )
        self._writes = Writes(database, self._statements, self._limits)
        self._sliding = LegacySliding(self.touch, ttl=ttl, max_lifetime=max_lifetime)

    @property
    def touch_failures(self) -> int:
        """How many touches of `touch_later` have failed."""
        return self._sliding.failures

    async def create_schema(self) -> None:
        """Make the tables and indexes that are missing. Repeatable, and safe on several hosts at once."""
        await self._database.create(self._schema.create)

    async def create(self, new: NewSession) -> Session:
        """See `SessionRepository.create`. An id stays in use until cleanup has removed the session's row."""
        session_id = secrets.token_urlsafe(24) if new.id is None else new.id
        check_id(session_id)
        check_owner("user", new.user_id)
        if new.agent_id is not None:
            check_owner("agent", new.agent_id)
        check_ttl(new.ttl)
        fields, _ = encode_attributes(new.data, self._limits)
        rows = await self._database.change(
            self._statements.insert,
            id=session_id,
            user_id=new.user_id,
            agent_id=new.agent_id,
            data=self._database.dialect.document(to_object(fields)),
            revision=draw_revision(),
            ttl=new.ttl,
            bucket=bucket_of(session_id),
        )
        if not rows:
            raise SessionExistsError("a session, or the tombstone of one, already has this id")
        return with_data(to_changed(rows[0]), new.data)

    async def get(self, session_id: str) -> Session | None:
        """See `SessionRepository.get`."""
        if not is_id(session_id):
            return None
        rows = await self._database.read(self._statements.get, id=session_id)
        return to_session(rows[0]) if rows else None

    async def get_many(self, session_ids: Sequence[str]) -> list[Session | None]:
        """See `SessionRepository.get_many`."""
        ids = {session_id for session_id in session_ids if is_id(session_id)}
        if not ids:
            return [None] * len(session_ids)
        rows = await self._database.read(self._statements.get_many, ids=self._database.dialect.texts(sorted(ids)))
        found = {row[0]: to_session(row) for row in rows}
        return [found.get(session_id) for session_id in session_ids]

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        """See `SessionRepository.update`."""
        return to_session(await self._writes.merge(session_id, changes, remove, expected_revision))

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        """See `SessionRepository.change`."""
        return to_changed(await self._writes.merge(session_id, changes, remove, expected_revision, briefly=True))

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        """See `SessionRepository.replace`."""
        return to_session(await self._writes.replace(session_id, data, expected_revision))

    async def touch(self, session_id: str) -> Session:
        """See `SessionRepository.touch`."""
        if not is_id(session_id):
            raise not_found()
        rows = await self._database.change(self._statements.touch, id=session_id)
        if not rows and not self._database.dialect.data_modifying_ctes:
            rows = await self._database.read(self._statements.get, id=session_id)
        if not rows:
            raise not_found()
        return to_session(rows[0])

    def touch_later(self, session: Session) -> bool:
        """See `SessionRepository.touch_later`."""
        return self._sliding.touch(session)

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """See `SessionRepository.delete`."""
        if not is_id(session_id):
            return False
        return await self._writes.end(session_id, expected_revision)

    async def delete_user(self, user_id: str) -> int:
        """See `SessionRepository.delete_user`. One round trip per 200 sessions."""
        check_owner("user", user_id)
        ended, born, more = 0, None, True
        while more:
            rows = await self._database.change(self._statements.end_user, user_id=user_id, born=born, most=_END_AT_ONCE)
            # What is created after the first statement is none of this call's business
            born = born or (rows[0].now if rows else None)
            ended += len(rows)
            more = len(rows) == _END_AT_ONCE
        return ended

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        order: Order = "newest",
    ) -> Page:
        """See `SessionRepository.list_sessions`. One round trip."""
        check_page(limit)
        if user_id is not None:
            check_owner("user", user_id)
        if agent_id is not None:
            check_owner("agent", agent_id)
        if order not in ("oldest", "newest"):
            raise InvalidSessionError("order: oldest or newest")
        name = name_list(user_id, agent_id, order)
        # One more than asked for tells whether the list goes on.
        asked: dict[str, Any] = {"user_id": user_id, "agent_id": agent_id, "most": limit + 1}
        if cursor is not None:
            asked["created_at"], asked["id"] = read_cursor(name, cursor)
        statement = self._statements.page(
            user=user_id is not None, agent=agent_id is not None, after=cursor is not None, newest=order == "newest"
        )
        rows = await self._database.read(statement, **asked)
        sessions = [to_session(row) for row in rows[:limit]]
        return Page(sessions=sessions, cursor=make_cursor(name, sessions[-1]) if len(rows) > limit else None)

    async def count_active(self) -> int:
        """See `SessionRepository.count_active`. Reads one index from end to end: 0.25 s per million
        sessions, measured on PostgreSQL 15 on two busy cores."""
        return cast("int", (await self._database.read(self._statements.active))[0][0])

    async def statistics(self) -> Statistics:
        """See `SessionRepository.statistics`. Costs what `count_active` does."""
        return await count(self._database, self._statements)

    async def clean(self, limit: int) -> list[Ended]:
        """See `SessionRepository.clean`. Also removes up to `limit` rows that are told and long over."""
        check_page(limit)
        return await take(self._database, self._statements, limit)

    async def told(self, ended: Sequence[Ended]) -> None:
        """See `SessionRepository.told`."""
        if ended:
            ids = self._database.dialect.texts(sorted(end.id for end in ended))
            await self._database.change(self._statements.told, ids=ids)

    async def lead(self, task: str, holder: str, seconds: float) -> bool:
        """True while `holder` leads `task` (say, cleanup) for the next `seconds`: one holder at a time in the fleet."""
        milliseconds = max(1, int(seconds * 1000))
        return bool(await self._database.change(self._statements.lead, task=task, holder=holder, ms=milliseconds))

    async def describe(self) -> StoreState:
        """The state of the database and of the schema, for /readyz and operators; never raises. One round trip."""
        details: dict[str, Any] = {"database": self._database.dialect.name, "latency_ms": None}
        started = time.perf_counter()
        try:
            await self._database.read(self._statements.probe)
        except StoreUnavailableError as error:
            return StoreState(state="down", reason=error.reason, details=details)
        details["latency_ms"] = round((time.perf_counter() - started) * 1000, 3)
        return StoreState(state="up", reason=None, details=details)
