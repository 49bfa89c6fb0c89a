"""The application behind a real socket, with the short way in front of it or without."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn

from session_ops.api.app import Api
from session_ops.serve.protocol import LimitedProtocol
from session_ops.serve.worker import _Server

JSON = {"content-type": "application/json"}
TOKEN = {"authorization": "Bearer all"}
CHANGE = b'{"data":{"a":2}}'


class Counting:
    """An application that counts what reaches it."""

    def __init__(self, app: Api) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        await self.app(scope, receive, send)


class Served:
    """The application behind a socket."""

    def __init__(self, app: Api, protocol: type[LimitedProtocol], keep_alive: float = 5) -> None:
        self.counting = Counting(app)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        started = asyncio.Event()
        config = uvicorn.Config(
            self.counting,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_keep_alive=keep_alive,  # type: ignore[arg-type]
        )
        self.server = _Server(config, started.set)
        self.task = asyncio.create_task(self.server.serve(sockets=[self._socket]))
        self.started = started

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task
        self._socket.close()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, *parts: bytes) -> bytes:
        """Send the parts one by one on a connection, close our side of it last; all that comes back."""
        reader, writer = await self.connect()
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            text = await reader.read()
        writer.close()
        return text


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"", *, length: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: s", *[f"{name}: {value}" for name, value in headers.items()]]
    if body and length:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
