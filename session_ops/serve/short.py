"""The short way from the socket to a session and back: plain requests (api/plain.py) without ASGI in between.

uvicorn makes an event, a cycle and two messages of a request, and checks what an application hands back: half of the
processor's time of a read. Here a plain request is one task and one write. All rules of the connection stay uvicorn's:
a plain request stands where uvicorn keeps the request under way, so that what is pipelined behind it waits its turn,
and a server that stops lets it finish.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from session_ops.api.middleware import STARTED
from session_ops.api.sessions import FAILURE
from session_ops.serve.protocol import LimitedProtocol

if TYPE_CHECKING:
    from session_ops.api.plain import Call, Caller, Plain

_NOBODY_WAITS = asyncio.Event()


class _Exchange:
    """A plain request under way. Has what uvicorn asks of the cycle that it keeps of a request."""

    __slots__ = ("body", "call", "disconnected", "headers", "keep_alive", "more_body", "response_complete")
    message_event = _NOBODY_WAITS

    def __init__(self, call: Call, headers: list[tuple[bytes, bytes]]) -> None:
        self.call = call
        self.headers = headers
        self.body = call.body
        self.more_body = True
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False


class ShortProtocol(LimitedProtocol):
    """Answers plain requests itself and leaves all others to uvicorn and the application."""

    plain: Plain
    _defaults: tuple[object, bytes] = (None, b"")
    _idle_since = 0.0
    # The last headers on this connection and what they allowed: a client sends the same ones with every request
    _headers: list[tuple[bytes, bytes]] | None = None
    _caller: Caller

    def on_message_begin(self) -> None:
        """A head begins. uvicorn's scope of it is made only if the request turns out not to be plain."""
        self._head_open, self._head = True, 0
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def _make_scope(self) -> None:
        """What uvicorn does when a head begins, with what has come of it since."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)

    def on_headers_complete(self) -> None:
        """The head is complete: a plain request waits for its body alone."""
        cycle = self.cycle
        # Nothing before this request is unfinished, and nothing is special about the connection
        if (cycle is None or cycle.response_complete) and not self._suspect and not self.flow.write_paused:
            headers = self.headers
            if headers != self._headers:
                self._headers, self._caller = headers, self.plain.caller(headers)
            caller = self._caller
            # Without a header that says so, HTTP/1.0 does not keep a connection
            if self.parser.should_keep_alive() and (
                not caller.names_connection or self.parser.get_http_version() == "1.1"
            ):
                call = self.plain.call(self.parser.get_method(), self.url, caller)
                if call is not None:
                    self._head_open = False
                    self.cycle = cast("Any", _Exchange(call, headers))
                    return
        self._make_scope()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep the body; that of a plain request is no longer than the head has said, and that was allowed."""
        cycle: object = self.cycle
        if type(cycle) is _Exchange:
            cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: answer it."""
        exchange: object = self.cycle
        if type(exchange) is _Exchange and exchange.more_body:
            exchange.more_body = False
            task = self.loop.create_task(self._answer(exchange))
            self.tasks.add(task)
            task.add_done_callback(self._ended)
        else:
            super().on_message_complete()

    async def _answer(self, exchange: _Exchange) -> None:
        answer = await self.plain.answer(exchange.call)
        if answer is None:
            await self._go_on(exchange).run_asgi(self.app)
            return
        head, body = answer
        exchange.response_complete = True
        if exchange.disconnected:
            return
        end = b"\r\n" if exchange.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((head, self._default_headers(), end, body)))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # One timer per connection instead of one per request

    def on_response_complete(self) -> None:
        """Go on with what is pipelined, else be idle. As uvicorn's, which makes a timer here and ends it when more
        arrives: as dear as finding the session in the answer.
        """
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unset_keepalive_if_required(self) -> None:
        """Leave the timer alone when more arrives: it looks for itself whether the connection is idle."""

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for all of the time, else look again when it may have been."""
        self.timeout_keep_alive_task = None
        now = self.loop.time()
        if self._head_open or not self.cycle.response_complete:
            self._idle_since = now
        left = self._idle_since + self.timeout_keep_alive - now
        if left <= 0:
            super().timeout_keep_alive_handler()
        elif not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timer with the connection."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _default_headers(self) -> bytes:
        """The headers that uvicorn adds to every answer; it makes a new list of them every second."""
        given = self.server_state.default_headers
        made, text = self._defaults
        if made is not given:
            text = b"".join([b"%b: %b\r\n" % header for header in given])
            ShortProtocol._defaults = (given, text)
        return text

    def _go_on(self, exchange: _Exchange) -> RequestResponseCycle:
        """The same request as uvicorn would have begun it, with what was learnt on the short way."""
        call = exchange.call
        path = f"/v1/sessions/{call.session_id}"
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "state": self.app_state.copy(),
            "method": "PATCH" if call.changes else "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": exchange.headers,
            STARTED: call.started,
            FAILURE: call.failure,
        }
        cycle = RequestResponseCycle(
            scope=cast("Any", scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=exchange.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body, cycle.more_body, cycle.disconnected = exchange.body, False, exchange.disconnected
        cycle.message_event.set()
        if self.cycle is cast("Any", exchange):
            self.cycle = cycle
        return cycle

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled() or task.exception() is not None:
            self.transport.close()


def short_protocol(head_limit: int, plain: Plain) -> type[ShortProtocol]:
    """The protocol with a limit on the head of a request, in bytes, and the short way to take."""
    return type("ShortProtocol", (ShortProtocol,), {"head_limit": head_limit, "plain": plain})
