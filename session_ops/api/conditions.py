"""Conditional requests (RFC 9110): If-Match guards a change, If-None-Match saves a transfer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from falcon.asgi import Request

    from session_ops.service import SessionService

_NEVER = "none"
"""A revision that no session has: what If-Match demands where it names none that could be."""

_find_tags = re.compile(r'(?:W/)?"[^"]*"').findall


async def expected_revision(req: Request, service: SessionService, session_id: str) -> str | None:
    """The revision that the request's If-Match demands, None where it demands none."""
    text = req.get_header("if-match")
    return None if text is None else await revision_in(text, service, session_id)


async def revision_in(text: str, service: SessionService, session_id: str) -> str | None:
    """The revision that an If-Match demands, None where it demands none (`*` asks only that the session exists).

    Of several tags the one the session has now is taken, which costs a read. A weak tag, and anything that is no entity
    tag at all, never matches: a caller that forgot the quotes must not overwrite what it has not seen.
    """
    if text.strip() == "*":
        return None
    tags: list[str] = _find_tags(text)
    if len(tags) > 1:
        session = await service.get(session_id)
        if session is not None and f'"{session.revision}"' in tags:
            return session.revision
    return tags[0][1:-1] if tags and tags[0].startswith('"') else _NEVER


def is_fresh(req: Request, tag: str) -> bool:
    """Whether If-None-Match names `tag`, so that the caller's copy is good. Weak comparison, as the RFC asks."""
    text = req.get_header("if-none-match")
    if text is None:
        return False
    return text.strip() == "*" or tag in [given.removeprefix("W/") for given in _find_tags(text)]
