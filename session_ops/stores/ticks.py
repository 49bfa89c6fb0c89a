"""What one tick of the event loop asks of Redis: reads between two guards, changes of one kind in one call."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from session_ops.errors import SessionOpsError
from session_ops.stores.library import LIBRARY
from session_ops.stores.link import Exchange, One
from session_ops.stores.replies import checked, is_error, pack, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from session_ops.errors import StoreUnavailableError
    from session_ops.stores.connection import Connection
    from session_ops.stores.layout import Names, Packed
    from session_ops.stores.replies import Argument

Found = TypeVar("Found")

READS = 256
"""Reads between two guards: replies are held until the tail has answered, which should not be long."""
TOGETHER = 100
"""Sessions per call of a function: it blocks Redis (25 ms for 500 sessions of 500 B)."""
TOGETHER_BYTES = 1_048_576


class Clock:
    """Redis' time as last heard, carried on by this host's monotonic clock."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def heard(self, now: int) -> None:
        """Note that an answer gave `now` (ms)."""
        self._offset = now - time.monotonic() * 1000

    def now(self) -> int | None:
        """Redis' time in ms, None before the first answer."""
        return None if self._offset is None else int(self._offset + time.monotonic() * 1000)


class Reads(Generic[Found]):
    """The sessions that are read in a tick: plain HGETALLs between a guard at the head and one at the tail.

    "This run of Redis is primary and has the generation key" never comes true again once it was false. So where both
    guards say it, it held for every read between them. Expiry is judged by the head's time.
    """

    def __init__(
        self,
        connection: Connection,
        names: Sequence[Names],
        clock: Clock,
        pin: bytes,
        unpack: Callable[[str, list[bytes], int, bytes], Found],
    ) -> None:
        """`pin` as every function takes it (functions.lua). `unpack` makes of an id, its hash, Redis' time and the mode
        what the reader is given; the mode is b"" where head and tail do not agree on it.
        """
        self._connection = connection
        self._clock = clock
        self._unpack = unpack
        self._guards = [pack((b"FCALL_RO", f"{LIBRARY}_guard", 1, name.generation, pin)) for name in names]
        self._prefixes = [name.session.decode() for name in names]
        self._waiting: dict[int, list[tuple[str, asyncio.Future[Found]]]] = {}

    def add(self, partition: int, session_id: str) -> asyncio.Future[Found]:
        """Read a session in this tick; the future raises `StoreUnavailableError`."""
        self._connection.admit()
        if not self._waiting:
            self._connection.enlist(self)
            self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = self._loop.create_future()
        reads = self._waiting.get(partition)
        if reads is None:
            self._waiting[partition] = [(session_id, future)]
        else:
            reads.append((session_id, future))
        return future

    def emit(self) -> Iterator[Exchange]:
        """Return the tick's reads, one exchange per partition, and more where there are very many."""
        waiting, self._waiting = self._waiting, {}
        for partition, reads in waiting.items():
            for start in range(0, len(reads), READS):
                chunk = reads[start : start + READS]
                yield Exchange(
                    self._commands(partition, [name for name, _ in chunk]),
                    len(chunk) + 2,
                    partial(self._answer, chunk),
                    partial(_fail, [future for _, future in chunk]),
                    change=False,
                    calls=len(chunk),
                )

    def together(self, partition: int, ids: Sequence[str]) -> asyncio.Future[list[Any]]:
        """Read up to `READS` sessions; of each its hash as it is, or an error where its key holds none. The future
        raises as that of `add`.
        """
        self._connection.admit()
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def succeed(replies: list[Any]) -> None:
            head, tail = replies[0], replies[-1]
            if future.done():
                return
            if is_error(head) or is_error(tail):
                future.set_exception(refusal(head if is_error(head) else tail, change=False))
            else:
                self._clock.heard(int(head[1]))
                future.set_result(replies[1:-1])

        commands, fail = self._commands(partition, ids), partial(_fail, [future])
        self._connection.enlist(One(Exchange(commands, len(ids) + 2, succeed, fail, change=False)))
        return future

    def _commands(self, partition: int, ids: Iterable[str]) -> bytes:
        guard, prefix = self._guards[partition], self._prefixes[partition]
        length = len(prefix)
        # An id is ASCII. All at once as text: packing each command by itself costs twice as much
        commands = "".join([f"*2\r\n$7\r\nHGETALL\r\n${length + len(name)}\r\n{prefix}{name}\r\n" for name in ids])
        return b"".join((guard, commands.encode(), guard))

    def _answer(self, reads: list[tuple[str, asyncio.Future[Found]]], replies: list[Any]) -> None:
        head, tail = replies[0], replies[-1]
        for guard in (head, tail):
            if is_error(guard):
                for _, future in reads:
                    if not future.done():
                        future.set_exception(refusal(guard, change=False))
                return
        now, mode = int(head[1]), head[0] if head[0] == tail[0] else b""
        self._clock.heard(now)
        unpack = self._unpack
        for index, (session_id, future) in enumerate(reads, 1):
            if future.done():
                continue
            reply = replies[index]
            try:
                if type(reply) is not list:
                    reply = checked(reply)
                future.set_result(unpack(session_id, reply, now, mode))
            except SessionOpsError as error:
                future.set_exception(error)


Answer = tuple[Any, int, list[bytes], bytes]
"""What a function answered for one session: its own reply, Redis' time, the session's hash if asked for, the mode."""

Change = tuple[bytes, "tuple[Argument, ...]", int, "asyncio.Future[Answer]"]
"""One session's part of a call: its key and arguments, their size, and who waits."""


class Changes:
    """The changes of one kind in a tick: one call of a function per partition and hundred sessions.

    With `read_back` each call travels with reads of its sessions in one transaction, so that the hashes answered are
    what the changes made of them. (Reading inside the function would cost Redis four times as much.)
    """

    def __init__(
        self,
        connection: Connection,
        function: str,
        names: Sequence[Names],
        header: tuple[int, ...],
        *,
        clock: Clock,
        pin: bytes,
        read_back: bool = False,
    ) -> None:
        self._connection = connection
        self._function = function.encode()
        self._generations = [name.generation for name in names]
        self._prefixes = [name.session for name in names]
        self._header = header
        self._clock = clock
        self._pin = pin
        self._read_back = read_back
        self._waiting: dict[int, list[Change]] = {}

    def add(
        self, partition: int, session_id: str, arguments: tuple[Argument, ...] = (), size: int = 0
    ) -> asyncio.Future[Answer]:
        """Make a change in this tick; the future raises `StoreUnavailableError` or `OutcomeUnknownError`."""
        self._connection.admit(size)
        if not self._waiting:
            self._connection.enlist(self)
            self._loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = self._loop.create_future()
        change = (self._prefixes[partition] + session_id.encode(), arguments, size, future)
        changes = self._waiting.get(partition)
        if changes is None:
            self._waiting[partition] = [change]
        else:
            changes.append(change)
        return future

    def together(self, partition: int, batch: Sequence[Packed]) -> asyncio.Future[list[Any]]:
        """Make up to `TOGETHER` changes by one call of the function, that nothing is read behind; of each its reply,
        which is an error where its key holds no session. The future raises as that of `add`.
        """
        size = sum([each.size for each in batch])
        self._connection.admit(size)
        prefix = self._prefixes[partition]
        keys = [prefix + each.session_id.encode() for each in batch]
        head: tuple[Argument, ...] = (
            b"FCALL",
            self._function,
            len(keys) + 1,
            self._generations[partition],
            *keys,
            *self._header,
        )
        count = len(head) + sum([each.arguments for each in batch]) + 1
        commands = b"".join([
            b"*%d\r\n" % count,
            pack(head).partition(b"\r\n")[2],
            *[each.wire for each in batch],
            pack((self._pin,)).partition(b"\r\n")[2],
        ])  # fmt: skip
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def succeed(replies: list[Any]) -> None:
            answer = replies[0]
            if future.done():
                return
            if is_error(answer):
                future.set_exception(refusal(answer, change=True))
            else:
                self._clock.heard(int(answer[1]))
                future.set_result(answer[2:])

        self._connection.enlist(
            One(Exchange(commands, 1, succeed, partial(_fail, [future]), change=True, calls=1, size=size))
        )
        return future

    def emit(self) -> Iterator[Exchange]:
        """Return the tick's changes, in batches that Redis finishes fast."""
        waiting, self._waiting = self._waiting, {}
        for partition, changes in waiting.items():
            start = size = 0
            keys: set[bytes] = set()
            for end, (key, _, more, _) in enumerate(changes):
                # Two changes of a session are not read back together: the first would be answered with the second
                again = self._read_back and key in keys
                if end > start and (again or end - start == TOGETHER or size + more > TOGETHER_BYTES):
                    yield self._exchange(partition, changes[start:end], size)
                    start, size = end, 0
                    keys.clear()
                keys.add(key)
                size += more
            yield self._exchange(partition, changes[start:], size)

    def _exchange(self, partition: int, changes: list[Change], size: int) -> Exchange:
        keys = [change[0] for change in changes]
        arguments = chain.from_iterable([change[1] for change in changes])
        commands = pack(
            (
                b"FCALL",
                self._function,
                len(keys) + 1,
                self._generations[partition],
                *keys,
                *self._header,
                *arguments,
                self._pin,
            )
        )
        expected = 1
        if self._read_back:
            reads = [pack((b"HGETALL", key)) for key in keys]
            commands = b"".join([b"*1\r\n$5\r\nMULTI\r\n", commands, *reads, b"*1\r\n$4\r\nEXEC\r\n"])
            expected = len(keys) + 3
        return Exchange(
            commands,
            expected,
            partial(self._answer, changes),
            partial(_fail, [change[3] for change in changes]),
            change=True,
            calls=len(changes),
            size=size,
        )

    def _answer(self, changes: list[Change], replies: list[Any]) -> None:
        answer, hashes = replies[0], None
        if self._read_back:
            if is_error(replies[-1]):
                answer = next(reply for reply in replies if is_error(reply))
            else:
                answer, *hashes = replies[-1]
        if is_error(answer):
            for _, _, _, future in changes:
                if not future.done():
                    future.set_exception(refusal(answer, change=True))
            return
        mode, now = answer[0], int(answer[1])
        self._clock.heard(now)
        for index, (_, _, _, future) in enumerate(changes):
            if future.done():
                continue
            reply = answer[2 + index]
            try:
                if type(reply) is not bytes:
                    reply = checked(reply)
                future.set_result((reply, now, checked(hashes[index]) if hashes else [], mode))
            except SessionOpsError as error:
                future.set_exception(error)


def _fail(futures: list[asyncio.Future[Any]], error: StoreUnavailableError) -> None:
    for future in futures:
        if not future.done():
            # One error each: a traceback belongs to one caller
            future.set_exception(type(error)(error.store, error.reason))
