"""A Redis on this host, asked over its Unix socket: many commands in one write, which it does one after the other."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Self

import hiredis

from session_ops.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Command = Sequence[bytes | str | int]


# Its stub knows tuples of one word
_pack: Any = hiredis.pack_command


class RefusedError(StoreUnavailableError):
    """Redis has answered with an error; `answer` is its own words."""

    def __init__(self, command: str, answer: str) -> None:
        """`command` is its first word."""
        super().__init__("redis", f"{command}: {answer}")
        self.answer = answer


class LocalRedis:
    """One connection. Raises `StoreUnavailableError` where nobody answers within `timeout` seconds."""

    def __init__(self, path: str, *, user: str = "", password: str = "", timeout: float = 60.0) -> None:
        self._reader = hiredis.Reader()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise StoreUnavailableError("redis", f"{path}: {error.strerror or error}") from error
        if password:
            self.call("AUTH", user, password)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(self, *command: bytes | str | int) -> Any:
        """One command's answer; raises `RefusedError`. One round trip."""
        (answer,) = self.many([command])
        if isinstance(answer, hiredis.ReplyError):
            raise RefusedError(str(command[0]), str(answer))
        return answer

    def many(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands that are sent in one write; an error is an answer too. One round trip.

        Redis does what it reads from one client without anything of another client in between, unless it is more
        than it reads at once (16 KiB at least).
        """
        answers: list[Any] = []
        try:
            self._socket.sendall(b"".join(_pack(tuple(each)) for each in commands))
            while len(answers) < len(commands):
                answer = self._reader.gets()
                if answer is not False:
                    answers.append(answer)
                elif data := self._socket.recv(1 << 18):
                    self._reader.feed(data)
                else:
                    raise StoreUnavailableError("redis", "connection closed")
        except OSError as error:
            raise StoreUnavailableError("redis", str(error)) from error
        return answers

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO."""
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
