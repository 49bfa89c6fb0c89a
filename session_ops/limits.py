"""What a session may hold: validation at the edge, before anything is sent to a store.

The limits are what every store can keep: Redis takes any byte, but PostgreSQL's jsonb takes no NUL in text, JSON has no
NaN, and users and agents become parts of key names and of URLs.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops.errors import InvalidSessionError, SessionTooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAXIMUM_PAGE = 1_000
MAXIMUM_TTL = 10 * 365 * 86_400
"""Ten years, in seconds: far above any session, far below what a number in Redis' Lua holds exactly in ms (2^53)."""

# Letters, digits, "_" and "-" are what today's frameworks draw; "." stands in Java's and uid-safe's ids, "~" is
# unreserved in URLs (RFC 3986), "," stands in PHP's ids and "=" pads base64. No "." in front: "." and ".." are path
# segments.
_ID = re.compile(r"[A-Za-z0-9_~,=-][A-Za-z0-9_.~,=-]{0,127}").fullmatch
# A name stands in JSON as it is, and in SQL's JSON paths
_UNQUOTED = re.compile(r'[^"\\]+').fullmatch
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")

_MAXIMUM_NAME = 128
_MAXIMUM_OWNER = 256
# Redis' Lua takes up to 8,000 values in one command
_MAXIMUM_REMOVED = 4_096
# msgspec and PostgreSQL's bigint agree on 64-bit signed integers; beyond them a decoder silently makes a float.
_INTEGERS = range(-(2**63), 2**63)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_apart = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_value = msgspec.json.Decoder().decode
_AS_IT_IS: Final = frozenset(b'"tfn')
"""What JSON begins with that can be written in one way, where nothing is escaped: text, true, false, null."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that an operator may set.

    `size` counts the bytes of all attribute names and JSON values of a session, `attributes` its top-level
    attributes, `depth` the arrays and objects inside one another within a value.
    """

    size: int = 65_536
    attributes: int = 512
    depth: int = 32


_NO_LIMITS = Limits(size=2**31, attributes=2**31, depth=1_000)


def is_id(session_id: str) -> bool:
    """Whether a session can have this id; one that cannot is simply unknown to every read."""
    return isinstance(session_id, str) and _ID(session_id) is not None


def is_prefix(prefix: str) -> bool:
    """Whether a generation can have this prefix: it becomes part of every key's name."""
    return _PREFIX(prefix) is not None


def check_id(session_id: str) -> None:
    """Raise `InvalidSessionError` unless a session can have this id."""
    if not is_id(session_id):
        raise InvalidSessionError("id: 1 to 128 of A-Z a-z 0-9 _ - ~ , = and, not in front, a full stop")


def check_owner(kind: str, owner: str) -> None:
    """Raise `InvalidSessionError` unless `owner` can name a user or an agent (`kind` says which)."""
    if not isinstance(owner, str) or not 1 <= len(owner) <= _MAXIMUM_OWNER or not owner.isprintable():
        raise InvalidSessionError(f"{kind}: 1 to {_MAXIMUM_OWNER} printable characters")


def check_owners(user_id: str | None, agent_id: str | None) -> None:
    """Raise `InvalidSessionError` unless both, where given, can be a user and an agent."""
    if user_id is not None:
        check_owner("user", user_id)
    if agent_id is not None:
        check_owner("agent", agent_id)


def check_ttl(ttl: int | None) -> None:
    """Raise `InvalidSessionError` unless `ttl` is None or a whole number of seconds up to ten years."""
    if ttl is not None and (type(ttl) is not int or not 1 <= ttl <= MAXIMUM_TTL):
        raise InvalidSessionError(f"ttl: 1 to {MAXIMUM_TTL} seconds")


def check_page(limit: int) -> None:
    """Raise `InvalidSessionError` unless `limit` is a possible length of a page."""
    if type(limit) is not int or not 1 <= limit <= MAXIMUM_PAGE:
        raise InvalidSessionError(f"limit: 1 to {MAXIMUM_PAGE}")


def encode_names(names: Sequence[str]) -> list[bytes]:
    """Return the names of attributes to remove as stores keep them; raises `InvalidSessionError`."""
    if len(names) > _MAXIMUM_REMOVED:
        raise InvalidSessionError(f"remove: more than {_MAXIMUM_REMOVED} names")
    return [_encode_name(name) for name in names] if names else []


def encode_attributes(data: Mapping[str, Any], limits: Limits | None) -> tuple[list[bytes], int]:
    """Return names and JSON values of `data`, alternating, and the bytes they take together. `limits` None: any.

    Raises `InvalidSessionError` for what not every store could give back as it was, and `SessionTooLargeError` when
    `data` alone exceeds the limits. Only plain JSON types pass: a tuple or a date would come back as something else.
    """
    limits = limits or _NO_LIMITS
    if len(data) > limits.attributes:
        raise SessionTooLargeError(f"data: more than {limits.attributes} attributes")
    parts: list[bytes] = []
    size = 0
    for name, value in data.items():
        _check_value(name, value, limits.depth)
        try:
            encoded = _encode(value)
        except UnicodeEncodeError as error:
            raise InvalidSessionError(f"data: {name!r} holds text that is not valid Unicode") from error
        key = _encode_name(name)
        size += len(key) + len(encoded)
        parts.append(key)
        parts.append(encoded)
    if size > limits.size:
        raise SessionTooLargeError(f"data: {size} bytes, more than {limits.size}")
    return parts, size


def encode_text(text: bytes) -> tuple[list[bytes], int]:
    """As `encode_attributes` without limits, for the JSON object that `text` is: for less than taking it apart costs.

    Raises in addition what msgspec raises for what is no JSON object, and `UnicodeDecodeError` and `RecursionError`.
    """
    if b"\\" in text and b"\\u" in text:
        return encode_attributes(_decode(text), None)
    if not text.isascii():
        text.decode()  # msgspec looks only at the text that it decodes
    parts: list[bytes] = []
    size = 0
    for name, raw in _decode_apart(text).items():
        value = bytes(raw)
        if value[0] not in _AS_IT_IS or b"\\" in value:
            if _may_be_flawed(value):
                return encode_attributes(_decode(text), None)
            value = _encode(_decode_value(value))
        key = _encode_name(name)
        size += len(key) + len(value)
        parts.append(key)
        parts.append(value)
    return parts, size


def _may_be_flawed(value: bytes) -> bool:
    """Whether a JSON value without `\\u` has to be looked at: for large integers, and for how deep it is."""
    length = len(value)
    return (length >= 19 and b"0" * 19 in value.translate(_DIGITS_ALIKE)) or (
        length > _NO_LIMITS.depth and value.count(b"[") + value.count(b"{") > _NO_LIMITS.depth
    )


@lru_cache(4_096)  # applications use the same few names in all their sessions
def _encode_name(name: str) -> bytes:
    if type(name) is not str or not 1 <= len(name) <= _MAXIMUM_NAME or not name.isprintable() or not _UNQUOTED(name):
        raise InvalidSessionError(
            f"data: an attribute's name is 1 to {_MAXIMUM_NAME} printable characters, not \" or \\"
        )
    return name.encode()


def _check_value(name: str, value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        if "\0" not in value:
            return
    elif kind is bool or value is None or (kind is int and value in _INTEGERS):
        return
    reason = _flaw(value, depth)
    if reason is not None:
        raise InvalidSessionError(f"data: {str(name)[:_MAXIMUM_NAME]!r} holds {reason}")


def _flaw(value: Any, depth: int) -> str | None:
    """Walk `value` without recursion (depth is the caller's to choose) and say what no store could keep."""
    pending: list[tuple[Any, int]] = [(value, depth)]
    while pending:
        item, below = pending.pop()
        kind = type(item)
        if kind is dict or kind is list:
            if below == 0:
                return f"more than {depth} arrays and objects inside one another"
            if kind is dict:
                for key in item:
                    if type(key) is not str:
                        return "an object with a key that is not text"
                    if "\0" in key:
                        return "a NUL character"
                pending.extend((child, below - 1) for child in item.values())
            else:
                pending.extend((child, below - 1) for child in item)
        elif (reason := _scalar_flaw(item, kind)) is not None:
            return reason
    return None


def _scalar_flaw(item: Any, kind: type) -> str | None:
    if kind is str:
        return "a NUL character" if "\0" in item else None
    if kind is int:
        return None if item in _INTEGERS else "an integer outside 64 bits"
    if kind is float:
        return None if math.isfinite(item) else "a number that JSON does not know"
    if kind is bool or item is None:
        return None
    return f"a {kind.__name__}, which is no JSON type"
