"""What a function's answer for one session means to the caller of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from session_ops.errors import RevisionConflictError, SessionNotFoundError, SessionTooLargeError
from session_ops.stores.layout import unpack_session

if TYPE_CHECKING:
    from session_ops.records import Session
    from session_ops.stores.ticks import Answer

REVISION_LENGTH: Final = 8
NOT_FOUND: Final = "no live session has this id"
# What the functions answer for one session instead of its bookkeeping, as functions.lua says
_NOT_FOUND = 0
# No session has it as its revision but once in 2^64: stands for an expected revision that is none
_IMPOSSIBLE = bytes(REVISION_LENGTH)


def expected(revision: str | None) -> bytes:
    """The wire form of an expected revision; one that is malformed matches no session."""
    if revision is None:
        return b""
    try:
        packed = bytes.fromhex(revision)
    except ValueError:
        return _IMPOSSIBLE
    return packed if len(packed) == REVISION_LENGTH else _IMPOSSIBLE


def accepted(session_id: str, answer: Answer) -> Answer:
    """Return the answer of a change that was made, or raise what it says instead."""
    reply = answer.reply
    if isinstance(reply, bytes):
        if len(reply) == REVISION_LENGTH:
            raise RevisionConflictError(session_id, reply.hex())
        return answer
    if reply == _NOT_FOUND:
        raise SessionNotFoundError(NOT_FOUND)
    raise SessionTooLargeError("data: the session would exceed its limits")


def session_in(session_id: str, answer: Answer) -> Session:
    """Return the session that was read back with a change."""
    session = unpack_session(session_id, answer.fields, answer.now)
    if session is None:
        raise SessionNotFoundError(NOT_FOUND)
    return session
