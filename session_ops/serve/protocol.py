"""uvicorn's HTTP protocol, with a limit on the head of a request: without one a caller could fill the memory."""

from __future__ import annotations

from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_TITLES = {400: "The request is malformed", 431: "The request is too large"}
_KINDS = {400: "bad-request", 431: "too-large"}


class LimitedProtocol(HttpToolsProtocol):
    """Refuses a head of more than `head_limit` bytes, and answers what is no HTTP with a problem detail, too."""

    head_limit = 16_384
    _head_open = False
    _head = 0
    _suspect = False

    def data_received(self, data: bytes) -> None:
        """Count what arrives behind an unfinished head; what came with its beginning is at most one read."""
        if self._head_open:
            self._head += len(data)
        self._suspect = self._head > self.head_limit or len(data) > self.head_limit
        super().data_received(data)
        if self._head_open and self._head > self.head_limit and not self.transport.is_closing():
            self._refuse(431, self._too_large())

    def on_message_begin(self) -> None:
        """A head begins."""
        self._head_open, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is complete; a suspect one is measured. Raising ends in `send_400_response`."""
        self._head_open = False
        if self._suspect and self._size() > self.head_limit:
            raise ValueError
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or a head that was measured and is too large."""
        if self._suspect and self._size() > self.head_limit:
            self._refuse(431, self._too_large())
        else:
            self._refuse(400, msg)

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers or ())

    def _too_large(self) -> str:
        return f"the head has more than the {self.head_limit} bytes allowed"

    def _refuse(self, status: int, detail: str) -> None:
        problem: dict[str, Any] = {
            "type": f"urn:session-ops:problem:{_KINDS[status]}",
            "title": _TITLES[status],
            "status": status,
            "detail": detail,
            "request_id": None,
        }
        body = msgspec.json.encode(problem)
        head = (
            b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
