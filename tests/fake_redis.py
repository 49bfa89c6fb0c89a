"""A scripted server that speaks RESP, and a proxy that can be cut: for what a real Redis would not do on demand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

import hiredis

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[["Peer", list[bytes]], Awaitable[None]]

OK = b"+OK\r\n"


class Peer:
    """One client of the fake server."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer
        self._reader = reader
        self.bursts: list[list[list[bytes]]] = []

    async def serve(self, handler: Handler) -> None:
        """Hand each command to the handler; `bursts` keeps what arrived together."""
        commands = hiredis.Reader()
        while data := await self._reader.read(1 << 20):
            commands.feed(data)
            burst = []
            while (command := commands.gets()) is not False:
                burst.append(command)
            self.bursts.append(burst)
            for command in burst:
                if command[0] == b"CLIENT":
                    self.writer.write(OK)
                else:
                    await handler(self, command)

    def reply(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)

    def hang_up(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()


class FakeRedis:
    """Listens on a loopback port; `handler(peer, command)` answers every command but CLIENT SETNAME, which is OK."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.peers: list[Peer] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self.peers:
            peer.hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await peer.serve(self.handler)
        except (OSError, hiredis.ProtocolError):
            pass
        finally:
            writer.close()


class Proxy:
    """Passes bytes between a client and a real server; cuts both off once a budget of bytes in a direction is spent."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.connections = 0
        self.upstream_budget: int | None = None
        self.downstream_budget: int | None = None
        self.upstream = 0
        self.downstream = 0
        self.turns = 0
        """How often the client spoke after the server had: its round trips."""
        self._answered = True
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(self._up(reader, server_writer), self._down(server_reader, writer))
        except (OSError, asyncio.CancelledError):
            # asyncio logs a cancelled handler as an error
            pass
        finally:
            writer.transport.abort()
            server_writer.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            if self._answered:
                self.turns += 1
                self._answered = False
            if self.upstream_budget is not None:
                data = data[: self.upstream_budget]
                self.upstream_budget -= len(data)
            self.upstream += len(data)
            writer.write(data)
            await writer.drain()
            if self.upstream_budget == 0:
                self.upstream_budget = None
                # What was let through is to arrive before the cut
                await asyncio.sleep(0.002)
                raise ConnectionResetError
        raise ConnectionResetError

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            self._answered = True
            if self.downstream_budget is not None:
                data = data[: self.downstream_budget]
                self.downstream_budget -= len(data)
            self.downstream += len(data)
            writer.write(data)
            await writer.drain()
            if self.downstream_budget == 0:
                self.downstream_budget = None
                raise ConnectionResetError
        raise ConnectionResetError
