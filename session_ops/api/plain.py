"""The short way of plain requests: reading one session, and changing single attributes of one.

That is most of what a session service does, and a framework's general way costs three times what these two need. The
short way answers exactly the requests that succeed and have nothing unusual about them, and hands everything else on:
another route, a missing token, a conditional read, a body that is no JSON, and with what was learnt so far a session
that is absent or a store that fails. What a caller sees is the same on both ways; a test compares them.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from session_ops.api.bodies import DataBody, encode, view
from session_ops.api.conditions import revision_in
from session_ops.api.middleware import DURATION
from session_ops.api.sessions import split_changes, wants_minimal
from session_ops.errors import SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.api.middleware import Gate
    from session_ops.api.tokens import Tokens
    from session_ops.service import SessionService

# Ids as limits.py has them, so nothing is percent-encoded and there is no query
_session_in = re.compile(rb"/v1/sessions/([A-Za-z0-9_~,=-][A-Za-z0-9_.~,=-]{0,127})").fullmatch
_is_number = re.compile(rb"[0-9]{1,9}").fullmatch
_decode = msgspec.json.Decoder(DataBody).decode

_NOT_OF_READS = frozenset({b"if-none-match", b"if-match", b"prefer", b"content-type", b"content-length"})
_NEVER = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_KNOWN = frozenset({b"authorization", b"x-request-id", b"connection"}) | _NOT_OF_READS | _NEVER


class Caller:
    """What the headers of a request say: what the short way may do for it, and how."""

    __slots__ = ("if_match", "may_change", "may_read", "minimal", "names_connection", "request_id")

    def __init__(self) -> None:
        self.may_read = self.may_change = self.minimal = self.names_connection = False
        self.if_match: str | None = None
        self.request_id: str | None = None


class Call:
    """A plain request. `failure` is what its store raised; the long way does not ask again."""

    __slots__ = ("body", "caller", "changes", "failure", "request_id", "session_id", "started")

    def __init__(self, session_id: str, request_id: str, caller: Caller, *, changes: bool) -> None:
        self.session_id = session_id
        self.request_id = request_id
        self.caller = caller
        self.changes = changes
        self.started = perf_counter()
        self.body = bytearray()
        self.failure: Exception | None = None


class Plain:
    """Finds plain requests and answers them."""

    def __init__(self, service: SessionService, tokens: Tokens, gate: Gate, *, body_limit: int) -> None:
        """`body_limit` in bytes."""
        self._service = service
        self._tokens = tokens
        self._gate = gate
        self._body_limit = body_limit
        route = "/v1/sessions/{session_id}"
        self._read = service.metrics.histogram(DURATION, "GET", route, "200")
        self._changed = service.metrics.histogram(DURATION, "PATCH", route, "204")
        self._updated = service.metrics.histogram(DURATION, "PATCH", route, "200")

    def caller(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """What these headers allow; names are in lower case. The same headers always say the same."""
        caller = Caller()
        given: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _KNOWN:
                if name in given or name in _NEVER:
                    return caller
                given[name] = value
        caller.names_connection = b"connection" in given
        authorization = given.get(b"authorization")
        scopes = self._tokens.scopes_of(None if authorization is None else authorization.decode("latin-1")) or ()
        named = given.get(b"x-request-id")
        caller.request_id = None if named is None else named.decode("latin-1")
        caller.may_read = "read" in scopes and _NOT_OF_READS.isdisjoint(given)
        length = given.get(b"content-length", b"")
        if (
            "write" in scopes
            and given.get(b"content-type") == b"application/json"
            and b"if-none-match" not in given
            and _is_number(length)
        ):
            caller.may_change = int(length) <= self._body_limit
            if_match, prefer = given.get(b"if-match"), given.get(b"prefer")
            caller.if_match = None if if_match is None else if_match.decode("latin-1")
            caller.minimal = prefer is not None and wants_minimal(prefer.decode("latin-1"))
        return caller

    def call(self, method: bytes, url: bytes, caller: Caller) -> Call | None:
        """The call if it is a plain one that the caller may make, else None."""
        changes = method == b"PATCH"
        if not (caller.may_change if changes else caller.may_read and method == b"GET"):
            return None
        found = _session_in(url)
        if found is None or url == b"/v1/sessions/count":
            return None
        return Call(found[1].decode("ascii"), self._gate.request_id(caller.request_id), caller, changes=changes)

    async def answer(self, call: Call) -> tuple[bytes, bytes] | None:
        """The answer's head, without what the server adds to it and its end, and its body; None: go the long way."""
        try:
            return await (self._change(call) if call.changes else self._get(call))
        except Exception as error:  # noqa: BLE001 - whatever it is, the long way answers it
            call.failure = error
            return None

    async def _get(self, call: Call) -> tuple[bytes, bytes]:
        session = await self._service.get(call.session_id)
        if session is None:
            raise SessionNotFoundError
        body = encode(view(session))
        head = _OK % (len(body), session.revision.encode(), call.request_id.encode())
        self._read.observe(perf_counter() - call.started)
        return head, body

    async def _change(self, call: Call) -> tuple[bytes, bytes] | None:
        try:
            data = _decode(call.body).data
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if_match, expected = call.caller.if_match, None
        if if_match is not None:
            expected = await revision_in(if_match, self._service, call.session_id)
        changes, remove = split_changes(data)
        if call.caller.minimal:
            changed = await self._service.change(
                call.session_id, changes=changes, remove=remove, expected_revision=expected
            )
            head, body = _NO_CONTENT % (changed.revision.encode(), call.request_id.encode()), b""
            self._changed.observe(perf_counter() - call.started)
        else:
            session = await self._service.update(
                call.session_id, changes=changes, remove=remove, expected_revision=expected
            )
            body = encode(view(session))
            head = _OK % (len(body), session.revision.encode(), call.request_id.encode())
            self._updated.observe(perf_counter() - call.started)
        return head, body


_OK = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\netag: "%b"\r\nx-request-id: %b\r\n'
_NO_CONTENT = b'HTTP/1.1 204 No Content\r\netag: "%b"\r\npreference-applied: return=minimal\r\nx-request-id: %b\r\n'
