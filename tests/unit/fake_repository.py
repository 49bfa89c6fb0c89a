"""A repository in memory that keeps the contract, for tests of what stands above a store."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any

import msgspec

from session_ops.errors import (
    InvalidSessionError,
    RevisionConflictError,
    SessionExistsError,
    SessionNotFoundError,
)
from session_ops.limits import Limits, check_id, check_owner, check_page, check_ttl, encode_attributes, is_id
from session_ops.records import Changed, Ended, NewSession, Page, Session, Statistics, StoreState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from session_ops.stores.contract import Order


class FakeRepository:
    """`fails` is raised by the next operations until it is None again; `now` may be set to move the store's clock."""

    def __init__(self, ttl: int = 86_400, limits: Limits | None = None) -> None:
        self.ttl = ttl
        self.limits = limits or Limits()
        self.sessions: dict[str, Session] = {}
        self.ended: dict[str, Ended] = {}
        self.given: set[str] = set()
        self.calls: list[str] = []
        self.confirmed = asyncio.Event()
        self.fails: Exception | None = None
        self.state = StoreState(
            state="up",
            reason=None,
            details={"prefix": "1-fake", "mode": "final", "library": True, "keys": 1, "used_memory": 1_000_000},
        )
        self.ahead = 0
        self.created = self.expired = self.deleted = 0

    @property
    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.fails is not None:
            raise self.fails

    def _live(self, session_id: str) -> Session | None:
        session = self.sessions.get(session_id)
        if session is not None and session.expires_at <= self.now:
            del self.sessions[session_id]
            self.expired += 1
            self._end(session, "expired", session.expires_at)
            return None
        return session

    def _end(self, session: Session, cause: str, at: int) -> None:
        self.ended[session.id] = Ended(
            id=session.id, user_id=session.user_id, agent_id=session.agent_id, cause=cause, ended_at=at
        )

    def _slid(self, session: Session) -> int:
        ttl = (session.ttl or self.ttl) * 1000
        step = max(1, ttl // 20)
        return max(session.expires_at, -(-(self.now + ttl) // step) * step)

    def _must(self, session_id: str, expected: str | None) -> Session:
        session = self._live(session_id)
        if session is None:
            raise SessionNotFoundError
        if expected is not None and session.revision != expected:
            raise RevisionConflictError(session_id, session.revision)
        return session

    def _write(self, session: Session, data: dict[str, Any]) -> Session:
        encode_attributes(data, self.limits)
        changed = msgspec.structs.replace(
            session,
            data=data,
            updated_at=self.now,
            expires_at=self._slid(session),
            revision=secrets.token_hex(8),
            version=session.version + 1,
        )
        self.sessions[session.id] = changed
        return changed

    async def create(self, new: NewSession) -> Session:
        self._called("create")
        check_owner("user_id", new.user_id)
        if new.agent_id is not None:
            check_owner("agent_id", new.agent_id)
        check_ttl(new.ttl)
        if new.id is not None:
            check_id(new.id)
        encode_attributes(new.data, self.limits)
        session_id = new.id or secrets.token_urlsafe(24).replace("-", "_")
        if session_id in self.sessions or session_id in self.ended:
            raise SessionExistsError
        now = self.now
        session = Session(
            id=session_id,
            user_id=new.user_id,
            agent_id=new.agent_id,
            data=dict(new.data),
            created_at=now,
            updated_at=now,
            expires_at=0,
            revision=secrets.token_hex(8),
            version=1,
            ttl=new.ttl,
        )
        session = msgspec.structs.replace(session, expires_at=self._slid(session))
        self.sessions[session_id] = session
        self.created += 1
        return session

    async def get(self, session_id: str) -> Session | None:
        self._called("get")
        return self._live(session_id) if is_id(session_id) else None

    async def get_many(self, session_ids: Sequence[str]) -> list[Session | None]:
        self._called("get_many")
        return [self._live(session_id) for session_id in session_ids]

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        self._called("update")
        session = self._must(session_id, expected_revision)
        encode_attributes(dict.fromkeys(remove), self.limits)
        data = {name: value for name, value in {**session.data, **changes}.items() if name not in remove}
        return self._write(session, data)

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        session = await self.update(session_id, changes=changes, remove=remove, expected_revision=expected_revision)
        return Changed(**{name: getattr(session, name) for name in Changed.__struct_fields__})

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        self._called("replace")
        return self._write(self._must(session_id, expected_revision), dict(data))

    async def touch(self, session_id: str) -> Session:
        self._called("touch")
        session = self._must(session_id, None)
        touched = msgspec.structs.replace(session, expires_at=self._slid(session), version=session.version + 1)
        self.sessions[session_id] = touched
        return touched

    def touch_later(self, session: Session) -> bool:
        due = self._slid(session) > session.expires_at
        if due:
            self.calls.append("touch_later")
            self.sessions[session.id] = msgspec.structs.replace(session, expires_at=self._slid(session))
        return due

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        self._called("delete")
        session = self._live(session_id)
        if session is None:
            return False
        self._must(session_id, expected_revision)
        del self.sessions[session_id]
        self.deleted += 1
        self._end(session, "deleted", self.now)
        return True

    async def delete_user(self, user_id: str) -> int:
        self._called("delete_user")
        check_owner("user_id", user_id)
        ids = [session.id for session in self.sessions.values() if session.user_id == user_id]
        return sum([await self.delete(session_id) for session_id in ids])

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        order: Order = "newest",
    ) -> Page:
        self._called("list_sessions")
        check_page(limit)
        for kind, owner in (("user_id", user_id), ("agent_id", agent_id)):
            if owner is not None:
                check_owner(kind, owner)
        found = [
            session
            for session in list(self.sessions.values())
            if self._live(session.id) and user_id in (None, session.user_id) and agent_id in (None, session.agent_id)
        ]
        found.sort(key=lambda session: (session.created_at, session.id), reverse=order == "newest")
        if cursor is not None:
            if not cursor.startswith("after.") or not is_id(cursor[6:]):
                raise InvalidSessionError("cursor: not one of this service")
            ids = [session.id for session in found]
            found = found[ids.index(cursor[6:]) + 1 :] if cursor[6:] in ids else []
        page = found[:limit]
        return Page(sessions=page, cursor=f"after.{page[-1].id}" if len(found) > limit else None)

    async def count_active(self) -> int:
        self._called("count_active")
        return sum(1 for session_id in list(self.sessions) if self._live(session_id))

    async def statistics(self) -> Statistics:
        self._called("statistics")
        active = sum(1 for session_id in list(self.sessions) if self._live(session_id))
        return Statistics(active=active, created=self.created, expired=self.expired, deleted=self.deleted, moved=0)

    async def clean(self, limit: int) -> list[Ended]:
        self._called("clean")
        for session_id in list(self.sessions):
            self._live(session_id)
        waiting = sorted(self.ended.values(), key=lambda end: (end.id in self.given, end.ended_at))[:limit]
        self.given.update(end.id for end in waiting)
        return waiting

    async def told(self, ended: Sequence[Ended]) -> None:
        self._called("told")
        for end in ended:
            self.ended.pop(end.id, None)
        self.confirmed.set()

    async def describe(self) -> StoreState:
        await asyncio.sleep(0)
        return self.state
