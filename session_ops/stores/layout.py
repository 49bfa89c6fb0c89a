"""How sessions lie in Redis: the names of keys, and the packed bookkeeping. functions.lua is the other half of it."""

from __future__ import annotations

import binascii
import struct
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from session_ops.deferred import Deferred
from session_ops.errors import CorruptSessionError
from session_ops.records import Changed, Ended, Record, Session
from session_ops.stores.found import Missing
from session_ops.stores.replies import MALFORMED, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.stores.replies import Argument

ACTIVE: Final = 1
MOVED: Final = 2
DELETED: Final = 3
MARKER: Final = 4

_FAR: Final = 1
"""How a session is filed that is far from its end."""

_FINAL: Final = b"final"
_STATES: Final[dict[int, Literal["active", "moved", "deleted"]]] = {
    ACTIVE: "active",
    MOVED: "moved",
    DELETED: "deleted",
    MARKER: "moved",
}

# how it is filed, state, version, created, updated, expires (ms), revision, bytes of data, number of attributes,
# own TTL (s, 0: the default), length of the user; then the user and the agent. As HEAD in functions.lua; how it is
# filed and the bytes are skipped.
_HEAD = struct.Struct("<xBQQQQ8s4xHIH")
_OWNERS = _HEAD.size
# What goes before an argument on the wire, by its length
_LENGTHS: Final = [b"$%d\r\n" % length for length in range(1_024)]
MOST_ATTRIBUTES: Final = 65_535
"""Of a session: the bookkeeping counts no more."""

_WRITTEN = struct.Struct("<BBQQQQ8sIHIH")
_unpack_head = _HEAD.unpack_from
# ended at (ms), cause, length of the user; then the user, the agent's length, the agent, the id. As in `clean`.
_END = struct.Struct("<QBI")
_LENGTH = struct.Struct("<I")
# How many attributes to set, how many to remove; then the new revision and, if any, the expected one. As CONTROL.
_CONTROL = struct.Struct("<HH")


def partition_of(session_id: str, partitions: int) -> int:
    """The partition that holds a session: CRC16 as Redis Cluster computes it, modulo the number of partitions."""
    return binascii.crc_hqx(session_id.encode(), 0) % partitions if partitions > 1 else 0


class Names:
    """The names of the keys of one partition of one generation."""

    def __init__(self, prefix: str, partition: int) -> None:
        tail = f"{prefix}:{{{partition}}}"
        self.generation = f"generation:{tail}".encode()
        self.session = f"session:{tail}:".encode()
        self.control = f"control:{tail}:".encode()

    def session_key(self, session_id: str) -> bytes:
        """The key of a session's hash."""
        return self.session + session_id.encode()


def unpack_session(session_id: str, fields: Sequence[bytes], now: int) -> Session | None:
    """Return the session in an HGETALL's answer; None unless it is active and expires after `now`.

    Raises `CorruptSessionError` where no session is in it. Its data is decoded when somebody asks for it.
    """
    if not fields:
        return None
    try:
        if fields[0] != b"":
            # Redis keeps the order of small hashes only
            start = fields.index(b"")
            fields = [*fields[start:], *fields[:start]]
        head = fields[1]
        state, version, created, updated, expires, revision, count, ttl, length = _unpack_head(head)
        if state != ACTIVE or expires <= now:
            return None
        if len(fields) != 2 * count + 2:
            raise CorruptSessionError("a record in Redis is no session")
        data: Any = Deferred(fields)
        middle = _OWNERS + length
        return Session(
            id=session_id,
            user_id=head[_OWNERS:middle].decode(),
            agent_id=head[middle:].decode() or None,
            data=data,
            created_at=created,
            updated_at=updated,
            expires_at=expires,
            revision=revision.hex(),
            version=version,
            ttl=ttl or None,
        )
    except MALFORMED as error:
        raise CorruptSessionError("a record in Redis is no session") from error


def unpack_found(session_id: str, fields: Sequence[bytes], now: int, mode: bytes) -> Session | Missing:
    """The session in an HGETALL's answer where any reader may have it, else what is there instead.

    A session in mode final is a `Missing` with an active record: it counts by its mode, and not by a lease. Raises
    `CorruptSessionError`.
    """
    session = unpack_session(session_id, fields, now)
    if session is not None and mode != _FINAL:
        return session
    name = mode.decode()
    if not fields:
        return Missing(mode=name)
    if session is not None:
        return Missing(mode=name, record=Record(state="active", session=session))
    record = unpack_record(session_id, fields)
    return Missing(mode=name, record=record, expired=record.session.expires_at <= now)


def unpack_record(session_id: str, fields: Sequence[bytes]) -> Record:
    """The record in an HGETALL's answer, whatever its state; raises `CorruptSessionError`, for its data as well: who
    copies a record has to know.
    """
    try:
        head = fields[fields.index(b"") + 1]
        state = _STATES[head[1]]
        # What a session would be if it were active and alive
        alive = head[:1] + bytes((ACTIVE,)) + head[2:]
        session = unpack_session(session_id, [b"", alive, *_attributes(fields)], -1)
    except MALFORMED as error:
        raise CorruptSessionError("a record in Redis is no session") from error
    if session is None:
        raise CorruptSessionError("a record in Redis is no session")
    session.data  # noqa: B018 - decodes it
    return Record(state=state, session=session, filled=head[1] != MARKER)


def _attributes(fields: Sequence[bytes]) -> list[bytes]:
    at = fields.index(b"")
    return [*fields[:at], *fields[at + 2 :]]


def unpack_changed(session_id: str, head: bytes) -> Changed:
    """Return the bookkeeping that a change has answered."""
    _, version, created, updated, expires, revision, _, ttl, length = _unpack_head(head)
    return Changed(
        id=session_id,
        user_id=head[_OWNERS : _OWNERS + length].decode(),
        agent_id=head[_OWNERS + length :].decode() or None,
        created_at=created,
        updated_at=updated,
        expires_at=expires,
        revision=revision.hex(),
        version=version,
        ttl=ttl or None,
    )


def with_data(changed: Changed, data: dict[str, Any]) -> Session:
    """Return the session whose bookkeeping and data are known."""
    return Session(
        id=changed.id,
        user_id=changed.user_id,
        agent_id=changed.agent_id,
        data=data,
        created_at=changed.created_at,
        updated_at=changed.updated_at,
        expires_at=changed.expires_at,
        revision=changed.revision,
        version=changed.version,
        ttl=changed.ttl,
    )


def pack_control(changed: int, removed: int, revision: bytes, expected: bytes) -> bytes:
    """Return what an update of one session begins with; `expected` is a revision, or empty for any."""
    return _CONTROL.pack(changed, removed) + revision + expected


class Packed(NamedTuple):
    """A session as PUT takes it: how many arguments, and those as they go over the wire; `size`: bytes of its data."""

    session_id: str
    arguments: int
    wire: bytes
    size: int


def pack_head(session: Changed | Session, size: int, count: int) -> bytes:
    """Return the bookkeeping of a session as it is in Redis while it is active and far from its end.

    `size`: bytes of its data, `count`: its attributes. Raises `struct.error` for a number that does not fit.
    """
    user = session.user_id.encode()
    head = _WRITTEN.pack(
        _FAR,
        ACTIVE,
        session.version,
        session.created_at,
        session.updated_at,
        session.expires_at,
        bytes.fromhex(session.revision),
        size,
        count,
        session.ttl or 0,
        len(user),
    )
    return head + user + (session.agent_id or "").encode()


def pack_session(session: Changed | Session, fields: Sequence[bytes], size: int) -> Packed:
    """Return a session as PUT takes it. `fields`: names and values of its attributes. Raises as `pack_head`.

    For very many sessions: hiredis takes three times as long for a command of so many arguments.
    """
    head = pack_head(session, size, len(fields) // 2)
    parts = [b"$%d\r\n" % len(head), head, b"\r\n"]
    for field in fields:
        length = len(field)
        parts.append(_LENGTHS[length] if length < len(_LENGTHS) else b"$%d\r\n" % length)
        parts.append(field)
        parts.append(b"\r\n")
    return Packed(session.id, 1 + len(fields), b"".join(parts), size)


class Marked(NamedTuple):
    """What MARK has answered: the version of what is there now, whether it was given back, and whether with data."""

    version: int
    moved: bool
    filled: bool


def mark_arguments(session: Session) -> tuple[Argument, ...]:
    """Return what MARK is told of a row."""
    return (
        session.version,
        session.created_at,
        session.updated_at,
        session.expires_at,
        bytes.fromhex(session.revision),
        session.ttl or 0,
        session.user_id,
        session.agent_id or "",
    )


def pack_mark(session: Session) -> Packed:
    """Return a row as MARK takes it, for very many rows."""
    arguments = mark_arguments(session)
    return Packed(session.id, len(arguments), pack(arguments).partition(b"\r\n")[2], 0)


def unpack_marked(head: bytes) -> Marked:
    """Return what MARK has answered of one session."""
    return Marked(int.from_bytes(head[2:10], "little"), head[1] in (MOVED, MARKER), head[1] != MARKER)


def unpack_end(member: bytes) -> Ended:
    """Return the end that `clean` has answered."""
    ended_at, cause, length = _END.unpack_from(member)
    at = _END.size + length
    user = member[_END.size : at]
    (length,) = _LENGTH.unpack_from(member, at)
    agent = member[at + 4 : at + 4 + length]
    return Ended(
        id=member[at + 4 + length :].decode(),
        user_id=user.decode(),
        agent_id=agent.decode() or None,
        cause="deleted" if cause else "expired",
        ended_at=ended_at,
    )


def pack_end(end: Ended) -> bytes:
    """Return the end as `clean` has packed it."""
    user, agent = end.user_id.encode(), (end.agent_id or "").encode()
    head = _END.pack(end.ended_at, end.cause == "deleted", len(user))
    return head + user + _LENGTH.pack(len(agent)) + agent + end.id.encode()
