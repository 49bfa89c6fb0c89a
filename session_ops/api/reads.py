"""The short way of a read: most of what a session service does is `GET /v1/sessions/{id}` that finds one.

It answers exactly that, with half the work of the framework's way, and hands everything else on: another route, a
missing token, a conditional request, and with what was learnt so far a session that is absent or a store that fails.
What a caller sees is the same on both ways; a test compares them.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from session_ops.api.bodies import encode, view
from session_ops.api.middleware import DURATION
from session_ops.errors import SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from session_ops.api.middleware import Gate
    from session_ops.api.tokens import Tokens
    from session_ops.service import SessionService

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

FAILURE = "session_ops.failure"
"""Where the scope carries the failure of a read that was already made, so that it is not made twice."""

_PREFIX = "/v1/sessions/"


class Reads:
    """ASGI application in front of `following`."""

    def __init__(self, following: Application, service: SessionService, tokens: Tokens, gate: Gate) -> None:
        self._following = following
        self._service = service
        self._tokens = tokens
        self._gate = gate
        self._series = service.metrics.histogram(DURATION, "GET", f"{_PREFIX}{{session_id}}", "200")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a plain read that finds its session; hand on everything else."""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith(_PREFIX):
            started = perf_counter()
            answer = await self._read(scope)
            if answer is not None:
                head, body = answer
                await send(head)
                await send(body)
                self._series.observe(perf_counter() - started)
                return
        await self._following(scope, receive, send)

    async def _read(self, scope: Scope) -> tuple[Scope, Scope] | None:
        session_id = scope["path"][len(_PREFIX) :]
        request_id = self._admit(scope, session_id)
        if request_id is None:
            return None
        try:
            session = await self._service.get(session_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the framework's way answers it
            scope[FAILURE] = error
            return None
        if session is None:
            scope[FAILURE] = SessionNotFoundError()
            return None
        body = encode(view(session))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"etag", b'"%b"' % session.revision.encode()),
            (b"x-request-id", request_id.encode()),
        ]
        return (
            {"type": "http.response.start", "status": 200, "headers": headers},
            {"type": "http.response.body", "body": body},
        )

    def _admit(self, scope: Scope, session_id: str) -> str | None:
        """The request's id if it is a plain read by a caller who may read, else None."""
        if "/" in session_id or session_id in {"", "count"} or scope["query_string"]:
            return None
        authorization = given = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value.decode("latin-1")
            elif name == b"x-request-id":
                given = value.decode("latin-1")
            elif name == b"if-none-match":
                return None
        scopes = self._tokens.scopes_of(authorization)
        if scopes is None or "read" not in scopes:
            return None
        return self._gate.request_id(given)
