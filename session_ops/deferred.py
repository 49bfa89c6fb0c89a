"""A session's data as Redis keeps it: put together and decoded when somebody asks for it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from session_ops.errors import CorruptSessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_check = msgspec.json.Decoder(msgspec.Raw).decode
# Bytes that are no UTF-8, and as many members as it takes, are a ValueError and a TypeError
_BROKEN = (msgspec.DecodeError, ValueError, TypeError, RecursionError)


class Deferred:
    """Data that nobody has looked at. A JSON encoder refuses it, rather than write something else in its place."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Sequence[bytes]) -> None:
        """`fields`: bookkeeping's name and value, then names and JSON values, alternating."""
        self._fields = fields

    def __repr__(self) -> str:
        """What a session shows whose data cannot be decoded."""
        return "<no JSON>"

    def decode(self) -> dict[str, Any]:
        """The data; raises `CorruptSessionError`."""
        fields = self._fields
        try:
            return _decode(_object(len(fields)) % tuple(fields))
        except _BROKEN as error:
            raise CorruptSessionError("a record in Redis is no session") from error

    def text(self) -> msgspec.Raw:
        """The data as JSON, checked but not decoded: a third of the work. Raises `CorruptSessionError`."""
        try:
            text = _object(len(self._fields)) % tuple(self._fields)
            text.decode()  # strings that are skipped are not looked into
            return _check(text)
        except _BROKEN as error:
            raise CorruptSessionError("a record in Redis is no session") from error


@lru_cache(1_024)
def _object(fields: int) -> bytes:
    """The template that makes one JSON object of so many fields: the first two leave nothing behind.

    Names hold neither quotes nor backslashes, so that they can be put together as they are: decoding that costs half
    of what decoding name by name does.
    """
    return b"%.0b%.0b{" + b",".join([b'"%b":%b'] * (fields // 2 - 1)) + b"}"
