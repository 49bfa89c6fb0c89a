"""Sessions of which each has one owner, Redis or the legacy store: the contract, whoever owns the session."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from session_ops.errors import (
    OutcomeUnknownError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from session_ops.limits import Limits, check_id, check_owners, check_ttl, encode_attributes, is_id
from session_ops.operations import Delete, Replace, Touch, Update
from session_ops.owned_ends import OwnedEnds
from session_ops.records import Changed
from session_ops.stores.expiry import slide
from session_ops.stores.found import Put
from session_ops.stores.legacy_writes import draw_revision
from session_ops.stores.replies import WRONG_MODE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from session_ops.control import HostControl
    from session_ops.generation import Generations
    from session_ops.operations import Operation
    from session_ops.ownership import Ownership, RedisSteps
    from session_ops.records import Ended, NewSession, Page, Row, Session, Statistics
    from session_ops.stores.contract import Order
    from session_ops.stores.legacy import LegacySessionRepository
    from session_ops.stores.legacy_steps import LegacySteps
    from session_ops.stores.redis import RedisSessionRepository

Answer = TypeVar("Answer")

_ROUNDS: Final = 4
"""Tries of a create: each further one follows a control row that has changed meanwhile."""

_AT_ONCE: Final = 50
"""Sessions of a user that are ended at the same time."""

_encode = msgspec.json.Encoder().encode


class OwnedSessionRepository:
    """`SessionRepository` over both stores. `ttl` and `max_lifetime` (0: none) in seconds.

    Lists, counts and the ends of sessions come from the store that is complete: the legacy store, where every
    acknowledged change is, until the mode is final; Redis then.
    """

    def __init__(
        self,
        ownership: Ownership,
        control: HostControl,
        generations: Generations,
        legacy: LegacySessionRepository,
        steps: LegacySteps,
        *,
        ttl: int,
        max_lifetime: int,
        limits: Limits | None = None,
    ) -> None:
        self._ownership = ownership
        self._control = control
        self._generations = generations
        self._legacy = legacy
        self._steps = steps
        self._ttl = ttl
        self._max_lifetime = max_lifetime
        self._limits = limits or Limits()
        self._ends = OwnedEnds(legacy, steps, ownership.usable)
        self._touching: dict[str, asyncio.Task[None]] = {}
        self.touch_failures = 0

    async def create(self, new: NewSession) -> Session:
        """See `SessionRepository.create`. Two round trips, one where the session is born in the legacy store."""
        if new.id is not None:
            check_id(new.id)
        check_owners(new.user_id, new.agent_id)
        check_ttl(new.ttl)
        encode_attributes(new.data, self._limits)
        session_id = new.id or secrets.token_urlsafe(16)
        in_redis = self._ownership.home(session_id) == "redis"
        for _ in range(_ROUNDS):
            redis = self._ownership.usable() if in_redis else None
            born = await self._born_in_redis(redis, session_id, new)
            if born is not None:
                return born
            owner, generation = ("redis", redis.generation) if redis is not None else ("legacy", 0)
            row = await self._insert(session_id, new, owner, generation)
            if row is None:
                look = await self._steps.get(session_id)
                if look.row is not None:
                    raise SessionExistsError("a session, or the tombstone of one, already has this id")
                if look.control.mode != "mirror":
                    in_redis = True  # no session is born in the legacy store any more
                    if self._ownership.usable() is None:
                        raise StoreUnavailableError("redis", "no lease")
                continue
            if redis is None:
                return row.session
            put = Put.REFUSED
            try:
                put = await redis.put(row)
            except StoreUnavailableError as error:
                self._generations.failed(error, redis.generation)
            if put in (Put.WRITTEN, Put.NEWER):
                return row.session
            # The row is an ordinary session that nobody knows. Never go on with its id in the legacy store: a late PUT
            # would make a second owner
            if new.id is not None:
                raise OutcomeUnknownError("redis", "not filled")
            session_id, in_redis = secrets.token_urlsafe(16), False
        raise StoreUnavailableError("legacy", "collision")

    def get(self, session_id: str) -> Coroutine[Any, Any, Session | None]:
        """See `SessionRepository.get`. One round trip where the session is at its home."""
        return self._ownership.get(session_id)

    async def get_many(self, session_ids: Sequence[str]) -> list[Session | None]:
        """See `SessionRepository.get_many`. Those that Redis owns in one round trip together."""
        return await asyncio.gather(*[self.get(session_id) for session_id in session_ids])

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        """See `SessionRepository.update`. Two round trips: the owner's change, and the mirror or the look before it."""
        return await self._change(Update(session_id, changes, remove, expected_revision, self._limits))

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        """See `SessionRepository.change`. The mirror wants the session whole, so this costs what `update` does."""
        session = await self.update(session_id, changes=changes, remove=remove, expected_revision=expected_revision)
        return Changed(**{name: getattr(session, name) for name in Changed.__struct_fields__})

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        """See `SessionRepository.replace`. Two round trips."""
        return await self._change(Replace(session_id, data, expected_revision, self._limits))

    async def touch(self, session_id: str) -> Session:
        """See `SessionRepository.touch`. One round trip, and the mirror's where the expiry moves."""
        return await self._change(Touch(session_id))

    def touch_later(self, session: Session) -> bool:
        """See `SessionRepository.touch_later`."""
        now = self._control.legacy_now()
        if now is None or session.id in self._touching or session.expires_at <= now:
            return False
        if slide(now, session.created_at, session.ttl or self._ttl, self._max_lifetime) <= session.expires_at:
            return False
        task = asyncio.get_running_loop().create_task(self._touch_behind(session.id))
        self._touching[session.id] = task
        return True

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """See `SessionRepository.delete`. Two round trips."""
        if not is_id(session_id):
            return False
        operation = Delete(session_id, expected_revision)
        await self._ownership.change(operation)
        return operation.ended

    async def delete_user(self, user_id: str) -> int:
        """See `SessionRepository.delete_user`. The ids come from the complete store, each session from its owner."""
        check_owners(user_id, None)
        if self._is_final():
            try:
                return await self._complete_in_redis().delete_user(user_id)
            except StoreUnavailableError as error:
                if error.reason != WRONG_MODE:
                    raise
                # On the way back from final: each end has to reach its row
        born = (await self._steps.now()) or 0
        ended, cursor = 0, None
        while True:
            page = await self.list_sessions(user_id=user_id, cursor=cursor, limit=_AT_ONCE, order="oldest")
            mine = [session.id for session in page.sessions if session.created_at <= born]
            ended += sum(await asyncio.gather(*map(self.delete, mine)))
            cursor = page.cursor
            if cursor is None or len(mine) < len(page.sessions):
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
        """See `SessionRepository.list_sessions`. From the complete store; a cursor is good for that store alone."""
        return await self._of_the_complete(
            lambda store: store.list_sessions(
                user_id=user_id, agent_id=agent_id, cursor=cursor, limit=limit, order=order
            )
        )

    async def count_active(self) -> int:
        """See `SessionRepository.count_active`. From the complete store."""
        return await self._of_the_complete(lambda store: store.count_active())

    async def statistics(self) -> Statistics:
        """See `SessionRepository.statistics`. From the complete store."""
        return await self._of_the_complete(lambda store: store.statistics())

    async def clean(self, limit: int) -> list[Ended]:
        """See `SessionRepository.clean`. From the complete store; Redis is asked about the sessions that it owns."""
        return await (self._complete_in_redis().clean(limit) if self._is_final() else self._ends.clean(limit))

    async def told(self, ended: Sequence[Ended]) -> None:
        """See `SessionRepository.told`."""
        await (self._complete_in_redis() if self._is_final() else self._legacy).told(ended)

    async def lead(self, task: str, holder: str, seconds: float) -> bool:
        """True while `holder` leads `task` for the next `seconds`: one holder at a time in the fleet."""
        return await self._of_the_complete(lambda store: store.lead(task, holder, seconds))

    async def close(self) -> None:
        """Wait for the touches under way; each ends within the stores' deadlines."""
        if self._touching:
            await asyncio.wait(self._touching.values())

    async def _change(self, operation: Operation) -> Session:
        session = await self._ownership.change(operation) if is_id(operation.id) else None
        if session is None:
            raise SessionNotFoundError("no live session has this id")
        return session

    async def _touch_behind(self, session_id: str) -> None:
        try:
            await self._ownership.change(Touch(session_id))
        except StoreUnavailableError:
            self.touch_failures += 1  # due again at the next read
        finally:
            self._touching.pop(session_id, None)

    async def _born_in_redis(self, redis: RedisSteps | None, session_id: str, new: NewSession) -> Session | None:
        """CREATE, where this host knows that the mode is final; None where it is not, or not any more: a row first."""
        if redis is None or not self._control.final(redis.generation):
            return None
        try:
            return await self._complete_in_redis().create(msgspec.structs.replace(new, id=session_id))
        except StoreUnavailableError as error:
            if error.reason != WRONG_MODE:
                raise
            return None

    async def _insert(self, session_id: str, new: NewSession, owner: str, generation: int) -> Row | None:
        parameters = self._steps.insert_parameters(
            session_id,
            new.user_id,
            new.agent_id,
            new.ttl,
            data=_encode(new.data).decode(),
            revision=draw_revision(),
        )
        return await self._steps.insert(parameters, owner, generation)

    async def _of_the_complete(
        self, ask: Callable[[RedisSessionRepository | LegacySessionRepository], Awaitable[Answer]]
    ) -> Answer:
        """What the complete store answers. On the way back from final Redis refuses once both of them are."""
        if not self._is_final():
            return await ask(self._legacy)
        try:
            return await ask(self._complete_in_redis())
        except StoreUnavailableError as error:
            if error.reason != WRONG_MODE:
                raise
            return await ask(self._legacy)

    def _is_final(self) -> bool:
        current = self._control.current
        return current is not None and current.mode == "final"

    def _complete_in_redis(self) -> RedisSessionRepository:
        current = self._generations.current
        if current is None:
            raise StoreUnavailableError("redis", "no server")
        return current.repository
