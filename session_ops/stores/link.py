"""One TCP (or Unix socket) link to Redis: what was sent, in order, and what has been answered."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import hiredis

from session_ops.errors import OutcomeUnknownError, StoreUnavailableError
from session_ops.stores.replies import MALFORMED, is_error, refusal, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_INCOMPLETE = object()
# Enough that a tick is one write; beyond it what is not sent waits in the connection's bounded queue.
_HIGH_WATER = 1_048_576


class Exchange:
    """Commands that leave together, and their replies.

    Ends exactly once: `succeed` or `fail` calls the matching function and forgets both. `calls` is how many callers
    wait for it, `size` the bytes of their arguments: what the connection's queue counts.
    """

    __slots__ = (
        "calls",
        "change",
        "commands",
        "deadline",
        "expected",
        "group",
        "on_failure",
        "on_success",
        "replies",
        "size",
    )

    def __init__(
        self,
        commands: bytes,
        expected: int,
        on_success: Callable[[list[Any]], None],
        on_failure: Callable[[StoreUnavailableError], None],
        *,
        change: bool,
        calls: int = 1,
        size: int = 0,
    ) -> None:
        self.commands = commands
        self.expected = expected
        self.on_success: Callable[[list[Any]], None] | None = on_success
        self.on_failure: Callable[[StoreUnavailableError], None] | None = on_failure
        self.change = change
        self.calls = calls
        self.size = size
        self.replies: list[Any] = []
        self.deadline = 0.0
        self.group: Group | None = None

    @property
    def pending(self) -> bool:
        """Whether somebody still waits."""
        return self.on_success is not None

    def succeed(self) -> None:
        """Hand the replies to whoever waits; where they make no sense, fail and raise."""
        on_success = self.on_success
        if on_success is not None:
            try:
                on_success(self.replies)
            except MALFORMED as error:
                failure = unexpected(change=self.change)
                self.fail(failure)
                raise failure from error
            self.on_success = self.on_failure = None

    def fail(self, error: StoreUnavailableError) -> None:
        """Tell whoever waits that there will be no answer."""
        on_failure, self.on_success, self.on_failure = self.on_failure, None, None
        if on_failure is not None:
            on_failure(error)

    def lose(self, reason: str) -> None:
        """Fail after the commands have been sent: a change may have happened."""
        kind = OutcomeUnknownError if self.change else StoreUnavailableError
        self.fail(kind("redis", reason))


class One:
    """The source of a single exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def emit(self) -> Iterable[Exchange]:
        """See `Source`."""
        return (self._exchange,)


class Group:
    """The changes of a tick, acknowledged together once enough replicas have them (group commit)."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas
        self._answered: list[Exchange] = []

    def park(self, exchange: Exchange) -> None:
        """Keep an answered change until the replicas have answered too."""
        self._answered.append(exchange)

    def settle(self, replies: list[Any]) -> None:
        """Acknowledge the parked changes, or not: a shortfall leaves them unknown."""
        reached = replies[0]
        failure = refusal(reached, change=True).reason if is_error(reached) else None
        if failure is None and reached < self._replicas:
            failure = "not replicated"
        for exchange in self._answered:
            if failure is None:
                exchange.succeed()
            else:
                exchange.lose(failure)
        self._answered.clear()

    def lose(self, error: StoreUnavailableError) -> None:
        """Fail the parked changes: the link broke before the replicas answered."""
        for exchange in self._answered:
            exchange.lose(error.reason)
        self._answered.clear()


class Link(asyncio.Protocol):
    """The protocol object of one link. `on_lost(link, reason)` is called once, after all it carried has failed."""

    def __init__(
        self, on_lost: Callable[[Link, str], None], on_resume: Callable[[], None], on_end: Callable[[Exchange], None]
    ) -> None:
        self._on_lost = on_lost
        self._on_resume = on_resume
        self._on_end = on_end
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self.flight: deque[Exchange] = deque()
        self.paused = False
        self.lost = False
        self.heard_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)

    def send(self, exchanges: list[Exchange]) -> None:
        """Send the exchanges in one write."""
        self.flight.extend(exchanges)
        if self._transport is not None:
            self._transport.write(b"".join([exchange.commands for exchange in exchanges]))

    def data_received(self, data: bytes) -> None:
        """Give each reply to the exchange that is next in line."""
        reader, flight = self._reader, self.flight
        self.heard_at = asyncio.get_running_loop().time()
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _INCOMPLETE:
                if not flight:
                    self.break_off("unexpected reply")
                    return
                exchange = flight[0]
                replies = exchange.replies
                replies.append(reply)
                if len(replies) == exchange.expected:
                    flight.popleft()
                    self._complete(exchange)
                    if self.lost:
                        return
        except hiredis.ProtocolError:
            self.break_off("protocol error")
        except StoreUnavailableError as error:
            self.break_off(error.reason)

    def _complete(self, exchange: Exchange) -> None:
        self._on_end(exchange)
        if exchange.group is not None:
            exchange.group.park(exchange)
        else:
            exchange.succeed()

    def pause_writing(self) -> None:
        """Stop taking exchanges: the peer reads slower than we write."""
        self.paused = True

    def resume_writing(self) -> None:
        """Take exchanges again."""
        self.paused = False
        self._on_resume()

    def eof_received(self) -> None:
        """Let the transport close; `connection_lost` follows."""

    def connection_lost(self, error: Exception | None) -> None:
        """Fail whatever is unanswered."""
        self.break_off("connection closed" if error is None else "connection lost")

    def break_off(self, reason: str) -> None:
        """Give the link up: everything unanswered fails, as unknown where it was a change."""
        if self.lost:
            return
        self.lost = True
        if self._transport is not None:
            self._transport.abort()
        unanswered = list(self.flight)
        self.flight.clear()
        for exchange in unanswered:
            self._on_end(exchange)
            exchange.lose(reason)
        self._on_lost(self, reason)
