"""What a function's answer for one session means to the caller of the contract."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from session_ops.errors import RevisionConflictError, SessionNotFoundError, SessionTooLargeError
from session_ops.stores.layout import unpack_changed, unpack_session
from session_ops.stores.replies import MALFORMED, unexpected

if TYPE_CHECKING:
    from session_ops.records import Changed, Session
    from session_ops.stores.ticks import Answer

REVISION_LENGTH: Final = 8
NOT_FOUND: Final = "no live session has this id"
# What the functions answer for one session instead of its bookkeeping, as functions.lua says
_NOT_FOUND = 0
_TOO_LARGE = 1
# No session has it as its revision but once in 2^64: stands for an expected revision that is none
_IMPOSSIBLE = bytes(REVISION_LENGTH)


class Revisions:
    """Draws revisions; the kernel is asked for many at once."""

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def draw(self) -> bytes:
        """Return eight random bytes."""
        if self._at == len(self._drawn):
            self._drawn, self._at = secrets.token_bytes(512 * REVISION_LENGTH), 0
        self._at += REVISION_LENGTH
        return self._drawn[self._at - REVISION_LENGTH : self._at]


def expected(revision: str | None) -> bytes:
    """The wire form of an expected revision; one that is malformed matches no session."""
    if revision is None:
        return b""
    try:
        packed = bytes.fromhex(revision)
    except ValueError:
        return _IMPOSSIBLE
    return packed if len(packed) == REVISION_LENGTH else _IMPOSSIBLE


def accepted(session_id: str, answer: Answer) -> Changed:
    """Return the bookkeeping after a change that was made, or raise what the answer says instead."""
    reply = answer[0]
    if type(reply) is list:  # a touch that had nothing to write
        reply = reply[0]
    if type(reply) is bytes:
        if len(reply) == REVISION_LENGTH:
            raise RevisionConflictError(session_id, reply.hex())
        try:
            return unpack_changed(session_id, reply)
        except MALFORMED as error:
            raise unexpected(change=True) from error
    if reply == _NOT_FOUND:
        raise SessionNotFoundError(NOT_FOUND)
    if reply == _TOO_LARGE:
        raise SessionTooLargeError("data: the session would exceed its limits")
    raise unexpected(change=True)


def session_in(session_id: str, answer: Answer) -> Session:
    """Return the session that was read back with a change, or raise what the answer says instead."""
    if type(answer[0]) is int or len(answer[0]) == REVISION_LENGTH:
        accepted(session_id, answer)
    session = unpack_session(session_id, answer[2], answer[1])
    if session is None:
        raise SessionNotFoundError(NOT_FOUND)
    return session


def ended(session_id: str, answer: Answer) -> bool:
    """Whether a delete has ended the session; raises `RevisionConflictError`."""
    reply = answer[0]
    if type(reply) is bytes and len(reply) == REVISION_LENGTH:
        raise RevisionConflictError(session_id, reply.hex())
    if type(reply) is not bytes and type(reply) is not list and reply != _NOT_FOUND:
        raise unexpected(change=True)
    return type(reply) is bytes
