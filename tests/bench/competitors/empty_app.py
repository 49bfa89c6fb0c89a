"""The least that an ASGI application can do, on the same uvicorn as the service: what HTTP itself costs."""

from __future__ import annotations

from typing import Any

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
_BODY = {"type": "http.response.body", "body": b"{}"}


async def application(_scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """Answer `{}`."""
    await send(_HEAD)
    await send(_BODY)
