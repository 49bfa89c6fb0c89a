"""One generation of Redis as the ownership protocol sees it: its steps, bound to its prefix and its pin.

A generation never changes: a bump makes another one, and what was asked of the old one stays asked of the old one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from session_ops.errors import (
    CorruptSessionError,
    RevisionConflictError,
    SessionNotFoundError,
    SessionTooLargeError,
    StoreUnavailableError,
)
from session_ops.limits import encode_attributes, encode_names
from session_ops.operations import Changed
from session_ops.stores.answers import accepted, expected
from session_ops.stores.found import Missing, Put
from session_ops.stores.layout import (
    MARKER,
    Names,
    mark_arguments,
    pack_control,
    pack_head,
    partition_of,
    unpack_found,
    unpack_marked,
    unpack_record,
)
from session_ops.stores.library import LIBRARY
from session_ops.stores.redis import RedisSessionRepository, margin_of
from session_ops.stores.replies import LOST, NO_LIBRARY, NOT_PRIMARY, understood
from session_ops.stores.ticks import READS, Answer, Changes, Clock, Reads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from session_ops.limits import Limits
    from session_ops.records import Control, Record, Row, Session
    from session_ops.stores.connection import Connection
    from session_ops.stores.layout import Marked, Packed
    from session_ops.stores.replies import Argument

OUT_OF_MEMORY: Final = "out of memory"
"""The reason of what Redis refuses at maxmemory."""

_PUTS: Final = {0: Put.EXPIRED, 1: Put.HELD, 2: Put.WRITTEN, 3: Put.NEWER}
"""By what `put` answers."""

UNUSABLE: Final = frozenset({LOST, NOT_PRIMARY, NO_LIBRARY})
"""What a server that is not the pinned one, or has lost its data, answers."""


class RedisGeneration:
    """The steps of section 3 in one generation. One round trip each; all of one kind in a tick share a call.

    `pin` is the replication id that the control row names, `final` whether the caller's control row is final. Times
    in seconds.
    """

    def __init__(
        self,
        connection: Connection,
        generation: int,
        prefix: str,
        pin: str,
        *,
        final: bool,
        ttl: int,
        max_lifetime: int,
        cleanup_interval: int,
        partitions: int,
        limits: Limits,
    ) -> None:
        self.generation = generation
        self.prefix = prefix
        sent = (b"*" if final else b"") + pin.encode()
        self.repository = RedisSessionRepository(
            connection,
            prefix=prefix,
            pin=sent,
            ttl=ttl,
            max_lifetime=max_lifetime,
            cleanup_interval=cleanup_interval,
            partitions=partitions,
            limits=limits,
        )
        self._limits = limits
        self._partitions = partitions
        self._whole = partitions == 1
        self._connection = connection
        self._names = [Names(prefix, partition) for partition in range(partitions)]
        self._pin = sent
        clock = Clock()
        header = (margin_of(cleanup_interval), ttl * 1000, max_lifetime * 1000)

        def changes(function: str, settings: tuple[int, ...], *, read_back: bool) -> Changes:
            name = f"{LIBRARY}_{function}"
            return Changes(connection, name, self._names, settings, clock=clock, pin=sent, read_back=read_back)

        self._reads = Reads(connection, self._names, clock, sent, unpack_found)
        self._updates = changes("update", (*header, limits.size, limits.attributes), read_back=True)
        self._replaces = changes("replace", header, read_back=True)
        self._touches = changes("touch", header, read_back=True)
        self._kills = changes("delete", header, read_back=False)
        self._puts = changes("put", header[:1], read_back=False)
        self._marks = changes("mark", header, read_back=True)
        self._marks_apart = changes("mark", header, read_back=False)

    def read(self, session_id: str) -> asyncio.Future[Session | Missing]:
        """GET: the session where its record is active, else what is there instead."""
        return self._reads.add(0 if self._whole else partition_of(session_id, self._partitions), session_id)

    async def read_together(self, ids: Sequence[str]) -> list[Any]:
        """GET of very many sessions: of each its hash as it is in Redis, an error where its key holds none."""
        parts: dict[int, list[str]] = defaultdict(list)
        for session_id in ids:
            parts[partition_of(session_id, self._partitions)].append(session_id)
        chunks = [(part, of[start : start + READS]) for part, of in parts.items() for start in range(0, len(of), READS)]
        answers = await asyncio.gather(*[self._reads.together(part, some) for part, some in chunks])
        found: dict[str, Any] = {}
        for (_, some), hashes in zip(chunks, answers, strict=True):
            found.update(zip(some, hashes, strict=True))
        return [found[session_id] for session_id in ids]

    async def merge(
        self, session_id: str, changes: Mapping[str, Any], remove: Sequence[str], expected_revision: str | None
    ) -> Changed | None:
        """CAS that sets and removes attributes: the GET and the CAS in one call, with nothing in between."""
        fields, size = encode_attributes(changes, self._limits)
        removed = encode_names(remove)
        control = pack_control(
            len(fields) // 2, len(removed), self.repository.draw_revision(), expected(expected_revision)
        )
        arguments: tuple[Argument, ...] = (control, *fields, *removed)
        return await self._cas(self._updates, session_id, arguments, size)

    async def rewrite(self, session_id: str, data: Mapping[str, Any], expected_revision: str | None) -> Changed | None:
        """CAS that sets the data to exactly this."""
        fields, size = encode_attributes(data, self._limits)
        arguments: tuple[Argument, ...] = (
            expected(expected_revision),
            self.repository.draw_revision(),
            size,
            len(fields) // 2,
            *fields,
        )
        return await self._cas(self._replaces, session_id, arguments, size)

    async def slide(self, session_id: str) -> Changed | None:
        """CAS of the expiry where it is due."""
        return await self._cas(self._touches, session_id, (), 0)

    async def kill(self, session_id: str, expected_revision: str | None) -> Changed | None:
        """KILL. `written` is false for a tombstone that was there already."""
        answer = await self._add(self._kills, session_id, (expected(expected_revision),), 0)
        reply = answer[0]
        if type(reply) is int:
            return None
        written = type(reply) is bytes
        head = reply if written else reply[0]
        if written and len(head) <= 8:
            _accepted(session_id, answer)  # raises: the revision differs
        record = unpack_record(session_id, [b"", head])
        return Changed(record, answer[3].decode(), written=written)

    async def put(self, row: Row) -> Put:
        """PUT: the move to Redis."""
        session = row.session
        # What the row holds was accepted once: a limit that was lowered since keeps no session from moving
        fields, size = encode_attributes(session.data, None)
        arguments = (pack_head(session, size, len(fields) // 2), *fields)
        return _PUTS[(await self._add(self._puts, session.id, arguments, size))[0]]

    async def put_together(self, sessions: Sequence[Packed]) -> list[Put | None]:
        """PUT of up to `TOGETHER` sessions, each by itself, by one call for each partition of theirs. None: what is
        under its key is no session.
        """
        return [_PUTS.get(reply) for reply in await self._together(self._puts, sessions)]

    async def mark(self, row: Row) -> Record | None:
        """MARK: the move back; None where the generation key is not `mirror`."""
        session = row.session
        arguments = mark_arguments(session)
        try:
            answer = await self._add(self._marks, session.id, arguments, 0)
        except StoreUnavailableError as error:
            if error.reason != OUT_OF_MEMORY:
                raise
            return await self._mark_apart(session.id, arguments)
        return unpack_record(session.id, answer[2]) if type(answer[0]) is bytes else None

    async def _mark_apart(self, session_id: str, arguments: tuple[Argument, ...]) -> Record | None:
        """MARK at maxmemory, where Redis queues nothing for a transaction: the record is read behind it."""
        head = (await self._add(self._marks_apart, session_id, arguments, 0))[0]
        if type(head) is not bytes:
            return None
        if head[1] == MARKER:
            return unpack_record(session_id, [b"", head])
        # What was given back stays as it is, until the legacy store gives it away again
        found = await self.read(session_id)
        return found.record if isinstance(found, Missing) else None

    async def mark_together(self, sessions: Sequence[Packed]) -> list[Marked | CorruptSessionError | None]:
        """MARK of up to `TOGETHER` sessions (`pack_mark`), each by itself, by one call for each partition of theirs.

        None: the generation key is not `mirror`. An error: what is under its key is no session.
        """
        heads = await self._together(self._marks_apart, sessions)
        corrupt = CorruptSessionError("a record in Redis is no session")
        return [unpack_marked(head) if type(head) is bytes else None if head == 0 else corrupt for head in heads]

    async def _together(self, changes: Changes, sessions: Sequence[Packed]) -> list[Any]:
        parts: dict[int, list[int]] = defaultdict(list)
        for position, session in enumerate(sessions):
            parts[partition_of(session.session_id, self._partitions)].append(position)
        calls = [changes.together(part, [sessions[each] for each in some]) for part, some in parts.items()]
        found: dict[int, Any] = {}
        for positions, replies in zip(parts.values(), await asyncio.gather(*calls), strict=True):
            found.update(zip(positions, replies, strict=True))
        return [found[position] for position in range(len(sessions))]

    async def sweep(self, limit: int) -> int:
        """Take up to `limit` ended sessions out of the indexes of each partition; how many entries were looked at."""
        return await self.repository.sweep(limit)

    async def probe(self) -> int:
        """Redis' time (ms), from the pinned server with the generation key; raises `StoreUnavailableError` from any
        other.
        """
        answer = await self._connection.call("FCALL_RO", f"{LIBRARY}_guard", 1, self._names[0].generation, self._pin)
        with understood(change=False):
            return int(answer[1])

    async def _cas(
        self, changes: Changes, session_id: str, arguments: tuple[Argument, ...], size: int
    ) -> Changed | None:
        answer = await self._add(changes, session_id, arguments, size)
        try:
            _accepted(session_id, answer)
        except SessionNotFoundError:
            return None
        record = unpack_record(session_id, answer[2])
        return Changed(record, answer[3].decode(), written=type(answer[0]) is bytes)

    async def _add(self, changes: Changes, session_id: str, arguments: tuple[Argument, ...], size: int) -> Answer:
        return await changes.add(partition_of(session_id, self._partitions), session_id, arguments, size)


class Generations:
    """The generation in force on this host: made anew whenever the control row names another one.

    `make` makes the steps of a control row that names a server. `on_failure` is told of every unusable answer.
    """

    def __init__(
        self, make: Callable[[Control], RedisGeneration], on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self._make = make
        self._on_failure = on_failure
        self.current: RedisGeneration | None = None

    def changed(self, control: Control) -> None:
        """Take a control row that differs from the one before."""
        named = control.prefix is not None and control.pin is not None
        self.current = self._make(control) if named else None

    def steps(self) -> RedisGeneration | None:
        """The steps in force; None where the control row names no server."""
        return self.current

    def failed(self, error: StoreUnavailableError, generation: int) -> None:
        """An operation has had an unusable answer from `generation`: somebody should look."""
        del error
        if self.current is not None and self.current.generation == generation:
            self._on_failure()


def _accepted(session_id: str, answer: Answer) -> None:
    """Raise what the answer says instead of a change, with the mode by which it counts."""
    try:
        accepted(session_id, answer)
    except (RevisionConflictError, SessionTooLargeError) as error:
        error.mode = answer[3].decode()
        raise
