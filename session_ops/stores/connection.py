"""The multiplexed connection to Redis.

One connection carries the requests of all tasks of a worker: what is asked for in one tick of the event loop leaves in
one write (99,000 reads/s against 16,000 for a pool at 50 in flight on one core). What becomes of a request when the
link breaks is decided by one rule: never sent, nothing happened; sent and unanswered, a change is unknown. Nothing is
ever sent twice.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl as tls
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from session_ops.errors import OverloadedError, StoreUnavailableError
from session_ops.stores.link import Exchange, Group, Link, One
from session_ops.stores.replies import is_error, pack, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from session_ops.stores.replies import Argument

# Between attempts to connect, in seconds: doubled from the first to the last, each taken at random from half of it up.
_FIRST_PAUSE = 0.02
_LAST_PAUSE = 1.0
# Arguments of changes that wait to be sent or answered: back-pressure instead of memory.
_QUEUE_BYTES = 64 * 1024 * 1024

_random = random.SystemRandom()


class Source(Protocol):
    """Collects the requests of a tick; the connection asks it for them at the end of the tick."""

    def emit(self) -> Iterable[Exchange]:
        """Return what was collected since the last time, as exchanges that account for every admitted call."""
        ...


class Connection:
    """One connection that carries the requests of many tasks; connects lazily and by itself, with jitter.

    `host` that begins with "/" is a Unix socket. `deadline` and `connect_timeout` are in seconds; a request is
    answered or has failed within the deadline. `wait_replicas` above 0 acknowledges changes only once so many
    replicas have them. While the link is down requests wait for it within their deadline; once it has been down for
    longer they fail at once, with the reason.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        ssl: tls.SSLContext | None = None,
        deadline: float = 1.0,
        connect_timeout: float = 0.3,
        queue_limit: int = 10_000,
        name: str = "session-ops",
        wait_replicas: int = 0,
    ) -> None:
        self._host = host
        self._port = port
        self._db = db
        self._username = username
        self._password = password
        self._ssl = ssl
        self._deadline = deadline
        self._connect_timeout = connect_timeout
        self._queue_limit = queue_limit
        self._name = name
        self._wait_replicas = wait_replicas
        # WAIT blocks the link, so that it must end well before the deadline of what is queued behind it.
        self._wait = pack(("WAIT", wait_replicas, max(1, int(deadline * 500))))
        self._link: Link | None = None
        self._connector: asyncio.Task[None] | None = None
        self._sources: list[Source] = []
        self._unsent: deque[Exchange] = deque()
        self._calls = 0
        self._bytes = 0
        self._scheduled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False
        self._drained: asyncio.Future[None] | None = None
        self._down_since: float | None = None
        self._trouble: str | None = None

    def __repr__(self) -> str:
        """Name the peer, never the password."""
        return f"<Connection {self._host}:{self._port}/{self._db} {self.reason or 'up'}>"

    @property
    def up(self) -> bool:
        """Whether a link is established."""
        return self._link is not None

    @property
    def reason(self) -> str | None:
        """Why there is no link, in a short stable phrase; None while there is one."""
        if self._link is not None:
            return None
        return self._trouble or "not connected"

    @property
    def in_flight(self) -> int:
        """How many calls wait to be sent or answered."""
        return self._calls

    async def call(self, *command: Argument, change: bool = False) -> Any:
        """Send one command and return its reply; raises `StoreUnavailableError` for an error reply too."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def succeed(replies: list[Any]) -> None:
            if not future.done():
                if is_error(replies[0]):
                    future.set_exception(refusal(replies[0], change=change))
                else:
                    future.set_result(replies[0])

        def fail(error: StoreUnavailableError) -> None:
            if not future.done():
                future.set_exception(error)

        commands = pack(command)
        self.admit(len(commands))
        self.enlist(One(Exchange(commands, 1, succeed, fail, change=change, size=len(commands))))
        return await future

    def enlist(self, source: Source) -> None:
        """Have `source` asked for its requests at the end of this tick; it enlists once per tick."""
        self._sources.append(source)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._end_of_tick)

    def admit(self, size: int = 0) -> None:
        """Count one more call in, of `size` bytes; an exchange that an enlisted source emits must account for it.

        Raises `OverloadedError` when the queue is full and `StoreUnavailableError` when the link has been down for
        longer than the deadline, or was refused for good.
        """
        if self._link is None or self._closed:
            self._refuse_if_down()
        if self._calls >= self._queue_limit or self._bytes + size > _QUEUE_BYTES:
            raise OverloadedError("redis", "queue full")
        self._calls += 1
        self._bytes += size

    def _refuse_if_down(self) -> None:
        if self._closed:
            raise StoreUnavailableError("redis", "closed")
        if self._down_since is not None and self._trouble is not None:
            waited = asyncio.get_running_loop().time() - self._down_since
            if waited >= self._deadline:
                raise StoreUnavailableError("redis", self._trouble)

    async def close(self) -> None:
        """Stop taking calls, give those under way their deadline to be answered, then close."""
        self._closed = True
        loop = asyncio.get_running_loop()
        if self._calls and self._link is not None:
            self._drained = loop.create_future()
            await asyncio.wait([self._drained], timeout=self._deadline)
        if self._connector is not None:
            self._connector.cancel()
            await asyncio.gather(self._connector, return_exceptions=True)
        self._end_of_tick()
        self._fail_unsent("closed")
        if self._link is not None:
            self._link.break_off("closed")
        if self._alarm is not None:
            self._alarm.cancel()

    def _end_of_tick(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline
        sources, self._sources = self._sources, []
        for source in sources:
            for exchange in source.emit():
                exchange.deadline = deadline
                self._unsent.append(exchange)
        if self._alarm is None and self._unsent:
            self._alarm = loop.call_at(deadline, self._expire)
        if self._link is not None:
            self._write()
        elif self._connector is None and not self._closed:
            self._connector = loop.create_task(self._connect_until_up())

    def _write(self) -> None:
        """Send all that is unsent in one write: reads first, so that they never wait for the replicas of a change."""
        link = self._link
        if link is None or link.paused or not self._unsent:
            return
        exchanges = sorted(self._unsent, key=_is_change) if self._wait_replicas else list(self._unsent)
        self._unsent.clear()
        if self._wait_replicas and exchanges[-1].change:
            group = Group(self._wait_replicas)
            wait = Exchange(self._wait, 1, group.settle, group.lose, change=True, calls=0)
            wait.deadline = exchanges[-1].deadline
            for exchange in exchanges:
                if exchange.change:
                    exchange.group = group
            exchanges.append(wait)
        link.send(exchanges)

    def _ended(self, exchange: Exchange) -> None:
        self._calls -= exchange.calls
        self._bytes -= exchange.size
        exchange.calls = exchange.size = 0
        if self._calls == 0 and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _fail_unsent(self, reason: str) -> None:
        unsent = list(self._unsent)
        self._unsent.clear()
        for exchange in unsent:
            self._ended(exchange)
            exchange.fail(StoreUnavailableError("redis", reason))

    def _expire(self) -> None:
        """Fail what is past its deadline, and give up a link that has been silent for a whole one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._unsent and self._unsent[0].deadline <= now:
            exchange = self._unsent.popleft()
            self._ended(exchange)
            exchange.fail(StoreUnavailableError("redis", self.reason or "timeout"))
        following = [self._unsent[0].deadline] if self._unsent else []
        link = self._link
        overdue = False
        for exchange in list(link.flight) if link is not None else ():
            if exchange.deadline > now:
                following.append(exchange.deadline)
            else:
                overdue = True
                if exchange.pending:
                    exchange.lose("timeout")
        # A slow peer may go on: its late replies go to nobody
        if link is not None and overdue:
            silent = link.heard_at + self._deadline
            if silent <= now:
                link.break_off("timeout")
                following = [self._unsent[0].deadline] if self._unsent else []
            else:
                following.append(silent)
        self._alarm = loop.call_at(min(following), self._expire) if following else None

    def _lost(self, link: Link, reason: str) -> None:
        if link is not self._link:
            return
        self._link = None
        self._trouble = reason
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._down_since = loop.time()
            self._connector = loop.create_task(self._connect_until_up())

    async def _connect_until_up(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        if self._down_since is None:
            self._down_since = loop.time()
        while True:
            try:
                link = await self._connect()
                # Nothing runs between this look and the end of the loop
                if not link.lost:
                    self._link = link
                    break
            except StoreUnavailableError as error:
                # Redis is there and has refused us: waiting within the deadline would not help anyone
                self._trouble = error.reason
                self._down_since -= self._deadline
            except (OSError, ValueError) as error:
                self._trouble = _trouble(error)
            else:
                self._trouble = "connection lost"
            if loop.time() - self._down_since >= self._deadline:
                self._fail_unsent(self._trouble)
            await asyncio.sleep(_random.uniform(pause / 2, pause))
            pause = min(_LAST_PAUSE, pause * 2)
        self._connector = None
        self._down_since = self._trouble = None
        self._write()

    async def _connect(self) -> Link:
        loop = asyncio.get_running_loop()

        def make() -> Link:
            return Link(self._lost, self._write, self._ended)

        async with asyncio.timeout(self._connect_timeout):
            if self._host.startswith("/"):
                _, link = await loop.create_unix_connection(make, self._host)
            else:
                host = self._host if self._ssl is not None else None
                transport, link = await loop.create_connection(
                    make, self._host, self._port, ssl=self._ssl, server_hostname=host
                )
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            async with asyncio.timeout(self._deadline):
                await self._greet(link)
        except BaseException:
            link.break_off("handshake")
            raise
        return link

    async def _greet(self, link: Link) -> None:
        """Log in, name the connection and select the database, in one round trip."""
        commands: list[tuple[Argument, ...]] = []
        if self._password is not None:
            commands.append(("AUTH", self._username or "default", self._password))
        commands.append(("CLIENT", "SETNAME", self._name))
        if self._db:
            commands.append(("SELECT", self._db))
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def succeed(replies: list[Any]) -> None:
            if not future.done():
                future.set_result(replies)

        def fail(error: StoreUnavailableError) -> None:
            if not future.done():
                future.set_exception(ConnectionResetError(error.reason))

        packed = b"".join([pack(command) for command in commands])
        link.send([Exchange(packed, len(commands), succeed, fail, change=False, calls=0)])
        for reply in await future:
            if is_error(reply):
                raise refusal(reply, change=False)


def _is_change(exchange: Exchange) -> bool:
    return exchange.change


def _trouble(error: OSError | ValueError) -> str:
    if isinstance(error, tls.SSLError):
        return "tls refused"
    if isinstance(error, (socket.gaierror, ValueError)):
        return "name unknown"
    return "unreachable"
