"""Lists of sessions in Redis: cursors, and the merge of what each partition answers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from session_ops.errors import InvalidSessionError
from session_ops.limits import is_id
from session_ops.records import Page
from session_ops.stores.layout import unpack_session
from session_ops.stores.replies import understood

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.records import Session
    from session_ops.stores.contract import Order
    from session_ops.stores.functions import Functions
    from session_ops.stores.layout import Names


class Query(NamedTuple):
    """What a list is of: the index that is walked, another that must hold the session too (or ""), the order."""

    walked: str
    other: str
    order: Order

    @classmethod
    def of(cls, user_id: str | None, agent_id: str | None, order: Order) -> Query:
        """Return the query for a user, an agent, both, or all."""
        if order not in ("oldest", "newest"):
            raise InvalidSessionError("order: oldest or newest")
        indexes = [f"user:{user_id}"] if user_id is not None else []
        if agent_id is not None:
            indexes.append(f"agent:{agent_id}")
        index, other = (*indexes, "", "")[:2]
        return cls(index or "created", other, order)

    @property
    def mark(self) -> str:
        """Ties a cursor to its query: a cursor of another list would skip sessions silently."""
        return f"{zlib.crc32(repr(self).encode()):08x}"


class Position(NamedTuple):
    """A place in a list: just after the session with this creation time and id. Ids are ASCII, so that str orders
    them as Redis does, by bytes.
    """

    created_at: int
    id: str


def encode_cursor(query: Query, position: Position) -> str:
    """Return the opaque cursor of a position."""
    text = f"{query.mark}.{position.created_at}.{position.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(query: Query, cursor: str) -> Position:
    """Return the position of a cursor; raises `InvalidSessionError` unless `encode_cursor` made it for this query."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        mark, created_at, session_id = text.split(".", 2)
        position = Position(int(created_at), session_id)
    except (ValueError, binascii.Error) as error:
        raise InvalidSessionError("cursor: not one of this list") from error
    if mark != query.mark or not is_id(session_id) or encode_cursor(query, position) != cursor:
        raise InvalidSessionError("cursor: not one of this list")
    return position


class Part(NamedTuple):
    """One partition's page: sessions in order, where it stopped (None: at its end), and ids that are stale."""

    sessions: list[Session]
    stopped: Position | None
    stale: list[bytes]

    @classmethod
    def of(cls, answer: list[Any]) -> Part:
        """Read the answer of the function `list`."""
        _, now, score, last_id, stale, found = answer
        sessions = []
        for index in range(0, len(found), 2):
            session = unpack_session(found[index].decode(), found[index + 1], now)
            if session is not None:
                session.data  # noqa: B018 - whoever lists sessions may put the page into JSON as it is
                sessions.append(session)
        stopped = Position(int(float(score)), last_id.decode()) if last_id else None
        return cls(sessions, stopped, stale)


class Lists:
    """The lists of one generation."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._healing: set[asyncio.Task[Any]] = set()

    async def page(self, query: Query, cursor: str | None, limit: int) -> Page:
        """Return a page. Entries without a session leave the index after the answer, with nobody waiting."""
        position = decode_cursor(query, cursor) if cursor is not None else Position(0, "")
        answers = await self._functions.read_everywhere("list", *query, limit, *position)
        with understood(change=False):
            parts = [Part.of(answer) for answer in answers]
        for names, part in zip(self._functions.partitions, parts, strict=True):
            if part.stale:
                self._heal(names, query, part.stale)
        return merge(query, parts, limit)

    def _heal(self, names: Names, query: Query, stale: Sequence[bytes]) -> None:
        for index in (query.walked, query.other):
            if index:
                task = asyncio.get_running_loop().create_task(self._functions.change(names, "heal", index, *stale))
                self._healing.add(task)
                task.add_done_callback(self._healed)

    def _healed(self, task: asyncio.Task[Any]) -> None:
        # Best effort: what fails is found stale by the next list. Looking at the error keeps asyncio from logging it.
        self._healing.discard(task)
        if not task.cancelled():
            task.exception()


def merge(query: Query, parts: Sequence[Part], limit: int) -> Page:
    """Merge the partitions' pages into one, up to where every partition has been seen."""
    newest = query.order == "newest"
    stops = [part.stopped for part in parts if part.stopped is not None]
    frontier = (max(stops) if newest else min(stops)) if stops else None
    sessions: list[Session] = []
    merged = heapq.merge(*[part.sessions for part in parts], key=_position, reverse=newest)
    for session in merged:
        position = _position(session)
        if frontier is not None and (position < frontier if newest else position > frontier):
            return Page(sessions=sessions, cursor=encode_cursor(query, frontier))
        if len(sessions) == limit:
            return Page(sessions=sessions, cursor=encode_cursor(query, _position(sessions[-1])))
        sessions.append(session)
    return Page(sessions=sessions, cursor=encode_cursor(query, frontier) if frontier is not None else None)


def _position(session: Session) -> Position:
    return Position(session.created_at, session.id)
