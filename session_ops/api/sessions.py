"""The resources under /v1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import falcon

from session_ops.api.bodies import CreateBody, DataBody, PageView, encode, etag, read_body, view
from session_ops.api.conditions import expected_revision, is_fresh
from session_ops.api.problems import Problem
from session_ops.api.segments import decoded
from session_ops.errors import SessionNotFoundError
from session_ops.records import NewSession

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from session_ops.records import Session
    from session_ops.service import SessionService

FAILURE = "session_ops.failure"
"""Where the scope carries the failure of a call that was already made on the short way (plain.py): it is not made
twice.
"""


class SessionsResource:
    """/v1/sessions."""

    scopes: ClassVar[dict[str, str]] = {"GET": "read", "POST": "write"}

    def __init__(self, service: SessionService, body_limit: int) -> None:
        self._service = service
        self._body_limit = body_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        """Create a session."""
        body = await read_body(req, CreateBody, self._body_limit)
        new = NewSession(user_id=body.user_id, agent_id=body.agent_id, data=body.data, ttl=body.whole_ttl())
        session = await self._service.create(new)
        _write(resp, session)
        resp.status = falcon.HTTP_201
        resp.set_header("location", f"/v1/sessions/{session.id}")

    async def on_get(self, req: Request, resp: Response) -> None:
        """List sessions."""
        given = _parameters(req, {"user_id", "agent_id", "cursor", "limit", "order"})
        limit = given.get("limit", "100")
        order = given.get("order", "newest")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:5]) <= 1000:
            raise Problem(400, "bad-request", "limit: 1 to 1000")
        if order not in ("newest", "oldest"):
            raise Problem(400, "bad-request", "order: newest or oldest")
        page = await self._service.list_sessions(
            user_id=given.get("user_id"),
            agent_id=given.get("agent_id"),
            cursor=given.get("cursor"),
            limit=int(limit),
            order=cast("Literal['newest', 'oldest']", order),
        )
        resp.data = encode(PageView([view(session) for session in page.sessions], page.cursor))


class SessionResource:
    """/v1/sessions/{session_id}."""

    scopes: ClassVar[dict[str, str]] = {"GET": "read", "PATCH": "write", "PUT": "write", "DELETE": "write"}

    def __init__(self, service: SessionService, body_limit: int) -> None:
        self._service = service
        self._body_limit = body_limit

    async def on_get(self, req: Request, resp: Response, session_id: str) -> None:
        """Read a session; its life slides on behind the answer."""
        _raise_failure(req)
        session = await self._service.get(session_id)
        if session is None:
            raise SessionNotFoundError
        tag = etag(session)
        if is_fresh(req, tag):
            resp.status = falcon.HTTP_304
        else:
            resp.data = encode(view(session))
        resp.set_header("etag", tag)

    async def on_patch(self, req: Request, resp: Response, session_id: str) -> None:
        """Set single attributes, remove those given as null. `Prefer: return=minimal` answers without a body."""
        _raise_failure(req)
        body = await read_body(req, DataBody, self._body_limit)
        expected = await expected_revision(req, self._service, session_id)
        changes, remove = split_changes(body.data)
        prefer = req.get_header("prefer")
        if prefer is not None and wants_minimal(prefer):
            changed = await self._service.change(session_id, changes=changes, remove=remove, expected_revision=expected)
            resp.status = falcon.HTTP_204
            resp.set_header("etag", etag(changed))
            resp.set_header("preference-applied", "return=minimal")
        else:
            session = await self._service.update(session_id, changes=changes, remove=remove, expected_revision=expected)
            _write(resp, session)

    async def on_put(self, req: Request, resp: Response, session_id: str) -> None:
        """Replace all attributes."""
        body = await read_body(req, DataBody, self._body_limit)
        expected = await expected_revision(req, self._service, session_id)
        _write(resp, await self._service.replace(session_id, data=body.data, expected_revision=expected))

    async def on_delete(self, req: Request, resp: Response, session_id: str) -> None:
        """End a session."""
        expected = await expected_revision(req, self._service, session_id)
        if not await self._service.delete(session_id, expected_revision=expected):
            raise SessionNotFoundError
        resp.status = falcon.HTTP_204


class TouchResource:
    """/v1/sessions/{session_id}/touch."""

    scopes: ClassVar[dict[str, str]] = {"POST": "write"}

    def __init__(self, service: SessionService) -> None:
        self._service = service

    async def on_post(self, _req: Request, resp: Response, session_id: str) -> None:
        """Slide a session's life on now."""
        _write(resp, await self._service.touch(session_id))


class CountResource:
    """/v1/sessions/count."""

    scopes: ClassVar[dict[str, str]] = {"GET": "read"}

    def __init__(self, service: SessionService) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """The number of live sessions."""
        _parameters(req, set())
        resp.data = encode({"active": await self._service.count_active()})


class StatisticsResource:
    """/v1/statistics."""

    scopes: ClassVar[dict[str, str]] = {"GET": "read"}

    def __init__(self, service: SessionService) -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """What the store holds and has seen."""
        _parameters(req, set())
        resp.data = encode(await self._service.statistics())


class UserSessionsResource:
    """/v1/users/{user_id}/sessions."""

    scopes: ClassVar[dict[str, str]] = {"DELETE": "admin"}

    def __init__(self, service: SessionService) -> None:
        self._service = service

    async def on_delete(self, _req: Request, resp: Response, user_id: str) -> None:
        """End all sessions of a user."""
        resp.data = encode({"deleted": await self._service.delete_user(decoded(user_id))})


def _write(resp: Response, session: Session) -> None:
    resp.data = encode(view(session))
    resp.set_header("etag", etag(session))


def _raise_failure(req: Request) -> None:
    failure = req.scope.get(FAILURE)
    if failure is not None:
        raise failure


def split_changes(data: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What a merge patch (RFC 7396) sets, and the names of what it removes: those given as null."""
    remove = [name for name, value in data.items() if value is None]
    return ({name: value for name, value in data.items() if value is not None} if remove else data), remove


def wants_minimal(prefer: str) -> bool:
    """Whether the caller prefers no body (RFC 7240)."""
    return "return=minimal" in prefer.replace(" ", "").lower().split(",")


def _parameters(req: Request, known: set[str]) -> dict[str, str]:
    """The query's parameters. Raises `Problem` for an unknown or repeated one: a misspelt filter must not list all."""
    given: dict[str, str] = {}
    for name, value in cast("dict[str, Any]", req.params).items():
        if name not in known:
            raise Problem(400, "bad-request", f"unknown parameter {name[:40]!r}")
        if not isinstance(value, str):
            raise Problem(400, "bad-request", f"{name} is given more than once")
        given[name] = value
    return given
