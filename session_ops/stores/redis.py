"""Sessions in Redis: the contract's implementation where Redis alone keeps them (mode final)."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from session_ops.errors import (
    SessionExistsError,
    SessionNotFoundError,
    StoreNotEmptyError,
    StoreUnavailableError,
)
from session_ops.limits import (
    Limits,
    check_id,
    check_owner,
    check_owners,
    check_page,
    check_ttl,
    encode_attributes,
    encode_names,
    is_id,
    is_prefix,
)
from session_ops.records import Session, Statistics
from session_ops.stores.answers import NOT_FOUND, Revisions, accepted, ended, expected, session_in
from session_ops.stores.ends import Ends
from session_ops.stores.functions import Functions
from session_ops.stores.layout import Names, pack_control, partition_of, unpack_session, with_data
from session_ops.stores.library import LIBRARY, NO_PIN
from session_ops.stores.lists import Lists, Query
from session_ops.stores.replies import NOT_EMPTY, understood, unexpected
from session_ops.stores.sliding import Sliding
from session_ops.stores.state import NO_PREFIX, describe
from session_ops.stores.ticks import Answer, Changes, Clock, Reads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from session_ops.records import Changed, Ended, NewSession, Page, StoreState
    from session_ops.stores.connection import Connection
    from session_ops.stores.contract import Order
    from session_ops.stores.replies import Argument

_MARGIN = 300
"""Seconds that a record outlives its session at least: as long as any late copy of it (ownership protocol, 2)."""
_PAGE = 100
_ID_BYTES = 16
"""128 random bits, 22 characters: an id is kept five times in Redis, and 24 bytes are an allocation of their own."""


def margin_of(cleanup_interval: int) -> int:
    """How long a record outlives its session, in ms; `cleanup_interval` in seconds."""
    return max(_MARGIN, 2 * cleanup_interval) * 1000


class RedisSessionRepository:
    """`SessionRepository` on one Redis. `ttl`, `max_lifetime` (0: none) and `cleanup_interval` are in seconds.

    A record outlives its session by max(5 min, 2 x cleanup interval), so that `clean` can still tell whose it was.
    `prefix` names the generation; None (no generation opened yet) makes every call but `describe` unavailable.
    `touch_failures` counts the touches of `touch_later` that came to nothing.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        prefix: str | None,
        pin: bytes = NO_PIN,
        ttl: int = 86_400,
        max_lifetime: int = 0,
        cleanup_interval: int = 3_600,
        partitions: int = 1,
        limits: Limits | None = None,
    ) -> None:
        if prefix is not None and not is_prefix(prefix):
            raise ValueError("a generation's prefix is 1 to 64 of A-Z a-z 0-9 _ -")
        self._connection = connection
        self._prefix = prefix
        self._pin = pin
        self._partitions = partitions
        self._whole = prefix is not None and partitions == 1
        self._limits = limits or Limits()
        names = [Names(prefix or "none", partition) for partition in range(partitions)]
        header = (margin_of(cleanup_interval), ttl * 1000, max_lifetime * 1000)
        sizes = (*header, self._limits.size, self._limits.attributes)
        clock = Clock()

        def changes(function: str, settings: tuple[int, ...], *, read_back: bool = False) -> Changes:
            return Changes(
                connection, f"{LIBRARY}_{function}", names, settings, clock=clock, pin=pin, read_back=read_back
            )

        self._reads = Reads(connection, names, clock, pin, _unpack)
        self._creates = changes("create", header)
        self._updates = changes("update", sizes, read_back=True)
        self._bare_updates = changes("update", sizes)
        self._replaces = changes("replace", header)
        self._touches = changes("touch", header, read_back=True)
        self._deletes = changes("delete", header)
        self._header = header
        self._revisions = Revisions()
        self._functions = Functions(connection, names, pin, opened=prefix is not None)
        self._lists = Lists(self._functions)
        self._ends = Ends(self._functions, partitions, header[0])
        self._sliding = Sliding(
            changes("touch", header), clock, ttl=ttl, max_lifetime=max_lifetime, partitions=partitions
        )

    @property
    def touch_failures(self) -> int:
        """How many touches of `touch_later` have failed."""
        return self._sliding.failures

    async def create(self, new: NewSession) -> Session:
        """See `SessionRepository.create`."""
        session_id = secrets.token_urlsafe(_ID_BYTES) if new.id is None else new.id
        check_id(session_id)
        check_owner("user", new.user_id)
        check_owners(None, new.agent_id)
        check_ttl(new.ttl)
        fields, size = encode_attributes(new.data, self._limits)
        revision = self._revisions.draw()
        user, agent = new.user_id.encode(), (new.agent_id or "").encode()
        arguments: tuple[Argument, ...] = (revision, user, agent, new.ttl or 0, size, len(fields) // 2, *fields)
        expires_at, now, _, _ = await self._creates.add(self._partition(session_id), session_id, arguments, size)
        if type(expires_at) is not int:
            raise unexpected(change=True)
        if expires_at == 0:
            raise SessionExistsError("a session, or the tombstone of one, already has this id")
        return Session(
            id=session_id,
            user_id=new.user_id,
            agent_id=new.agent_id,
            data=dict(new.data),
            created_at=now,
            updated_at=now,
            expires_at=expires_at,
            revision=revision.hex(),
            version=1,
            ttl=new.ttl,
        )

    async def get(self, session_id: str) -> Session | None:
        """See `SessionRepository.get`."""
        if not is_id(session_id):
            return None
        return await self._reads.add(0 if self._whole else self._partition(session_id), session_id)

    async def get_many(self, session_ids: Sequence[str]) -> list[Session | None]:
        """See `SessionRepository.get_many`."""
        return await asyncio.gather(*[self.get(session_id) for session_id in session_ids])

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        """See `SessionRepository.update`."""
        answer = await self._update(self._updates, session_id, changes, remove, expected_revision)
        return session_in(session_id, answer)

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        """See `SessionRepository.change`."""
        answer = await self._update(self._bare_updates, session_id, changes, remove, expected_revision)
        return accepted(session_id, answer)

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        """See `SessionRepository.replace`."""
        fields, size = encode_attributes(data, self._limits)
        partition = self._existing(session_id)
        revision = self._revisions.draw()
        arguments: tuple[Argument, ...] = (expected(expected_revision), revision, size, len(fields) // 2, *fields)
        answer = await self._replaces.add(partition, session_id, arguments, size)
        return with_data(accepted(session_id, answer), dict(data))

    async def touch(self, session_id: str) -> Session:
        """See `SessionRepository.touch`."""
        answer = await self._touches.add(self._existing(session_id), session_id)
        return session_in(session_id, answer)

    def touch_later(self, session: Session) -> bool:
        """Send a touch after the reader's answer where sliding is due; True when one was sent.

        For the service to call with a session it has read. Never raises and never waits; several readers of a session
        send one touch, and none is sent until the next step of ttl/20.
        """
        return self._prefix is not None and self._sliding.touch(session)

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """See `SessionRepository.delete`."""
        if not is_id(session_id):
            return False
        partition = self._partition(session_id)
        answer = await self._deletes.add(partition, session_id, (expected(expected_revision),))
        return ended(session_id, answer)

    async def delete_user(self, user_id: str) -> int:
        """See `SessionRepository.delete_user`. One round trip per hundred sessions, in all partitions at once."""
        check_owner("user", user_id)
        counts = await asyncio.gather(*[self._delete_user(names, user_id) for names in self._functions.partitions])
        return sum(counts)

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        order: Order = "newest",
    ) -> Page:
        """See `SessionRepository.list_sessions`."""
        check_page(limit)
        check_owners(user_id, agent_id)
        return await self._lists.page(Query.of(user_id, agent_id, order), cursor, limit)

    async def count_active(self) -> int:
        """See `SessionRepository.count_active`."""
        return (await self.statistics()).active

    async def statistics(self) -> Statistics:
        """See `SessionRepository.statistics`. A session counts as expired once cleanup has taken it."""
        answers = await self._functions.read_everywhere("statistics")
        with understood(change=False):
            active, created, expired, deleted, moved = (sum(column) for column in list(zip(*answers, strict=True))[2:])
        return Statistics(active=active, created=created, expired=expired, deleted=deleted, moved=moved)

    async def clean(self, limit: int) -> list[Ended]:
        """See `SessionRepository.clean`. One round trip (one per partition); more where none has ended and more than a
        thousand come near their end.
        """
        check_page(limit)
        return await self._ends.clean(limit)

    async def told(self, ended: Sequence[Ended]) -> None:
        """See `SessionRepository.told`. One round trip."""
        await self._ends.told(ended)

    async def lead(self, task: str, holder: str, seconds: float) -> bool:
        """True while `holder` leads `task` (say, cleanup) for the next `seconds`: one holder at a time in the fleet.

        The holder leads on by calling again in time; another gets the lead when it has lapsed. One round trip.
        """
        return await self._ends.lead(task, holder, seconds)

    async def sweep(self, limit: int) -> int:
        """Take up to `limit` ended sessions per partition out of the indexes, telling nobody: for generations that are
        mirrored. How many entries were looked at. One round trip (one per partition).
        """
        partitions = self._functions.partitions
        answers = await asyncio.gather(
            *[self._functions.change(names, "sweep", self._header[0], limit) for names in partitions]
        )
        with understood(change=True):
            return sum(answer[2] for answer in answers)

    async def open_mirrored(self) -> str:
        """OPEN, a bump's third step: open the generation `prefix` in mode mirror; the pin. One round trip."""
        pins = await self._functions.open("mirror")
        with understood(change=True):
            return str(pins[0].decode())

    async def change_mode(self, before: str, after: str) -> bool:
        """The generation key goes from `before` to `after` (docs/ownership.md, section 9), under the pin, in all
        partitions; whether any still said `before`. It is on disk only some time later. One round trip.
        """
        found = await self._functions.change_mode(before, after)
        with understood(change=True):
            return any(mode.decode() == before for mode in found)

    def draw_revision(self) -> bytes:
        """A new revision, as the functions take it."""
        return self._revisions.draw()

    async def open_generation(self) -> bool:
        """Open the generation `prefix` in mode final in an empty Redis; whether this call opened it.

        Raises `StoreNotEmptyError` when Redis holds anything else. One round trip.
        """
        try:
            return any(await self._functions.open("final"))
        except StoreUnavailableError as error:
            if error.reason == NOT_EMPTY:
                raise StoreNotEmptyError(
                    "this Redis holds other data: a generation is opened in an empty one"
                ) from error
            raise

    async def describe(self) -> StoreState:
        """The state of Redis and of the generation, for /readyz and operators; never raises. One round trip."""
        return await describe(self._connection, self._prefix, self._pin)

    def _update(
        self,
        updates: Changes,
        session_id: str,
        changes: Mapping[str, Any],
        remove: Sequence[str],
        expected_revision: str | None,
    ) -> asyncio.Future[Answer]:
        removed: Sequence[bytes] = ()
        if remove:
            removed = encode_names(remove)
            changes = {name: value for name, value in changes.items() if name not in remove}
        fields, size = encode_attributes(changes, self._limits)
        partition = self._existing(session_id)
        revision = self._revisions.draw()
        control = pack_control(len(fields) // 2, len(removed), revision, expected(expected_revision))
        return updates.add(partition, session_id, (control, *fields, *removed), size)

    async def _delete_user(self, names: Names, user_id: str) -> int:
        ended, born, more = 0, b"", True
        while more:
            arguments = (*self._header, user_id, born, _PAGE)
            answer = await self._functions.change(names, "delete_user", *arguments)
            with understood(change=True):
                _, now, count, more = answer
                # What is created after the first answer is none of this call's business
                born = born or b"%d" % now
                ended += count
        return ended

    def _partition(self, session_id: str) -> int:
        if self._prefix is None:
            raise StoreUnavailableError("redis", NO_PREFIX)
        return partition_of(session_id, self._partitions)

    def _existing(self, session_id: str) -> int:
        """The partition of an id that a session may have; an id that none can have is not found."""
        if not is_id(session_id):
            raise SessionNotFoundError(NOT_FOUND)
        return 0 if self._whole else self._partition(session_id)


def _unpack(session_id: str, fields: list[bytes], now: int, mode: bytes) -> Session | None:
    del mode  # the guards have refused any other than final
    return unpack_session(session_id, fields, now)
