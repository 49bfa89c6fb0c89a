"""A RESP2 client of the standard library alone: hosts get no Python packages just to be provisioned."""

from __future__ import annotations

import contextlib
import pathlib
import socket
from typing import Any

Reply = Any  # str, int, None or a list of replies: what RESP2 can carry


class RedisError(Exception):
    """Redis answered a command with an error; the text is Redis' own."""


class LoginError(Exception):
    """Redis runs but accepts none of the passwords we have."""


class Client:
    """One connection. Replies are strings (UTF-8, other bytes kept as surrogates), integers, None or lists."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = connection.makefile("rb")

    def call(self, *words: str | int) -> Reply:
        """Send one command and return its reply; one round trip.

        Raises RedisError for an error reply, ConnectionError when Redis hangs up in the middle.
        """
        encoded = [str(word).encode("utf-8", "surrogateescape") for word in words]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"".join(parts))
        reply = self._read()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        self._socket.close()

    def _line(self) -> str:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        return line[:-2].decode("utf-8", "surrogateescape")

    def _read(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == "+":
            return rest
        if kind == "-":
            return RedisError(rest)
        if kind == ":":
            return int(rest)
        if kind == "$":
            return self._bulk(int(rest))
        if kind == "*":
            return None if int(rest) < 0 else [self._read() for _ in range(int(rest))]
        raise ConnectionError(f"not a RESP2 reply: {line[:40]!r}")

    def _bulk(self, length: int) -> str | None:
        if length < 0:
            return None
        payload = self._stream.read(length + 2)
        if len(payload) != length + 2:
            raise ConnectionError("Redis closed the connection")
        return payload[:-2].decode("utf-8", "surrogateescape")


def connect(path: str, timeout: float = 10.0) -> Client | None:
    """Connect to the Unix socket at `path`; None when no process listens there.

    `timeout` in seconds holds for connecting and for every reply.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return Client(connection)


def log_in(client: Client, user: str, passwords: list[str]) -> None:
    """Authenticate as `user` with the first of `passwords` that Redis accepts.

    During a rotation both the old password (still in the host's file) and the new one are candidates. A Redis whose
    default user is open (installed, not yet taken over) needs none.

    Raises LoginError when every password was refused.
    """
    for password in passwords:
        with contextlib.suppress(RedisError):
            client.call("AUTH", user, password)
            return
    try:
        client.call("ACL", "WHOAMI")
    except RedisError as error:
        raise LoginError(
            f"Redis accepts no known password of its user {user}. Put the one it was given last into the host's "
            "administrator.password, or stop Redis and run again: a stopped Redis gets a new ACL file"
        ) from error


def read_password(path: str) -> list[str]:
    """Return the password in the host's file as a list of none or one."""
    try:
        return [pathlib.Path(path).read_text(encoding="utf-8").rstrip("\n")]
    except FileNotFoundError:
        return []
