"""User ids in paths: they may hold a slash, which a server decodes before the router can tell it from a separator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_PREFIX = "/v1/users/"


class EncodedUsers:
    """ASGI application in front of `following`: paths under /v1/users/ reach its router still percent-encoded."""

    def __init__(self, following: Application) -> None:
        self._following = following

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on, with the raw path where users stand in it."""
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX):
            raw = scope.get("raw_path")
            path = raw.decode("ascii", "replace") if raw else quote(scope["path"])
            scope = {**scope, "path": path}
        await self._following(scope, receive, send)


def decoded(segment: str) -> str:
    """The user id that a still encoded segment stands for."""
    return unquote(segment)
