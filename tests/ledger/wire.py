"""One host over HTTP/1.1, with failures told apart: nothing was sent, or nobody knows what became of it.

A general client hides just that (it opens connections, repeats requests and sums up errors as it likes), and costs more
per request than the service under test.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

_length_of = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE).search
_closes = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE).search

_IDLE_LIMIT = 3.0
"""Seconds: servers close idle connections (uvicorn after 5 s), and a request on a closed one has an unknown outcome."""


class NotSentError(Exception):
    """The request did not leave: nothing happened. The message is one short phrase."""


class NoAnswerError(Exception):
    """The request left and no whole answer came: a change may still take effect. The message is one short phrase."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came."""

    status: int
    body: bytes


@dataclass(slots=True)
class _Line:
    """A connection that is kept open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: float


class Host:
    """One service host. Every request has a connection to itself while it runs, and one try."""

    def __init__(self, url: str, token: str, *, timeout: float = 4.0, connect_timeout: float = 1.0) -> None:
        """`url` as `http://ADDRESS:PORT`; `timeout` of a request and `connect_timeout` of a connection in seconds."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"not an http:// address: {url!r}")
        self.url = url.rstrip("/")
        self._address = (parts.hostname, parts.port or 80)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._head = f"host: {parts.netloc}\r\nauthorization: Bearer {token}\r\n".encode()
        self._idle: list[_Line] = []

    async def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Reply:
        """Send once and return the answer, whatever its status.

        `headers` are whole lines with their line ends. Raises `NotSentError` and `NoAnswerError`.
        """
        line = self._kept() or await self._connect()
        kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
        message = f"{method} {path} HTTP/1.1\r\n".encode() + self._head + f"{kind}{headers}\r\n".encode() + body
        try:
            async with asyncio.timeout(self._timeout):
                line.writer.write(message)
                reply, reusable = await _answer(line.reader)
        except TimeoutError:
            line.writer.transport.abort()
            raise NoAnswerError("timeout") from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            line.writer.transport.abort()
            raise NoAnswerError("connection broken") from None
        except asyncio.CancelledError:
            line.writer.transport.abort()
            raise
        if reusable:
            line.used = time.monotonic()
            self._idle.append(line)
        else:
            line.writer.close()
        return reply

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._idle:
            self._idle.pop().writer.close()

    def _kept(self) -> _Line | None:
        limit = time.monotonic() - _IDLE_LIMIT
        while self._idle:
            line = self._idle.pop()
            if line.used > limit and not line.reader.at_eof() and not line.writer.is_closing():
                return line
            line.writer.transport.abort()
        return None

    async def _connect(self) -> _Line:
        try:
            async with asyncio.timeout(self._connect_timeout):
                reader, writer = await asyncio.open_connection(*self._address)
        except TimeoutError:
            raise NotSentError("connection timed out") from None
        except ConnectionRefusedError:
            raise NotSentError("connection refused") from None
        except OSError:
            raise NotSentError("host unreachable") from None
        return _Line(reader, writer, time.monotonic())


async def _answer(reader: asyncio.StreamReader) -> tuple[Reply, bool]:
    """The next answer, and whether the connection may carry another request."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        raise ValueError("not HTTP/1.1")
    status = int(head[9:12])
    length = _length_of(head)
    if length is None and status not in {204, 304}:
        raise ValueError("an answer without a length")
    body = await reader.readexactly(int(length[1])) if length else b""
    return Reply(status, body), _closes(head) is None
