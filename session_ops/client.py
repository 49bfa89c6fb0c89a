"""A typed async client for the HTTP API: the calls of a repository, over the network, with its errors."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from session_ops.errors import (
    InvalidSessionError,
    OutcomeUnknownError,
    RevisionConflictError,
    ServiceRefusedError,
    SessionNotFoundError,
    SessionTooLargeError,
    StoreUnavailableError,
)
from session_ops.limits import is_id
from session_ops.records import Statistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from types import TracebackType

Result = TypeVar("Result")

_encode = msgspec.json.Encoder().encode


class RemoteSession(msgspec.Struct, frozen=True, kw_only=True):
    """A live session as the service answers it. Times are in milliseconds since the epoch, UTC."""

    id: str
    user_id: str
    agent_id: str | None
    data: dict[str, Any]
    created_at: int
    updated_at: int
    expires_at: int
    revision: str


class RemotePage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list; `cursor` None means that the list ends here."""

    sessions: list[RemoteSession]
    cursor: str | None


class _Problem(msgspec.Struct):
    type: str = ""
    detail: str = ""


class SessionClient:
    """Calls one session service. Use it as an async context manager, and one for many calls: it keeps connections.

    A call that is known to have changed nothing is repeated until `deadline`, and so is one that may be repeated
    without harm (everything but `create`, and a change with `expected_revision`). Raises `StoreUnavailableError` when
    the service cannot be reached or cannot serve, `OutcomeUnknownError` when a change may still take effect,
    `ServiceRefusedError` when the token is unknown or lacks the scope.
    """

    def __init__(
        self, url: str, token: str, *, deadline: float = 5.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`url` of the service, `deadline` of a call with all its repetitions in seconds."""
        self._deadline = deadline
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(deadline, connect=min(1.0, deadline)),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        """Nothing is sent yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create(
        self,
        user_id: str,
        *,
        agent_id: str | None = None,
        data: Mapping[str, Any] | None = None,
        ttl: int | None = None,
    ) -> RemoteSession:
        """Create a session; `ttl` in seconds. After `OutcomeUnknownError` create again: nobody knows the first id."""
        body = {"user_id": user_id, "agent_id": agent_id, "data": dict(data or {}), "ttl": ttl}
        answer = await self._call("POST", "/v1/sessions", body=body, repeatable=False)
        return _decode(answer, RemoteSession)

    async def get(self, session_id: str) -> RemoteSession | None:
        """The live session, or None. Being read, it lives on."""
        try:
            return _decode(await self._call("GET", _path(session_id)), RemoteSession)
        except SessionNotFoundError:
            return None

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> RemoteSession:
        """Set and remove single attributes. An attribute cannot be set to None this way: None removes it."""
        data = {**changes, **dict.fromkeys(remove)}
        return _decode(await self._change("PATCH", session_id, data, expected_revision), RemoteSession)

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> RemoteSession:
        """Set the session's attributes to exactly `data`."""
        return _decode(await self._change("PUT", session_id, data, expected_revision), RemoteSession)

    async def touch(self, session_id: str) -> RemoteSession:
        """Slide the session's life on."""
        return _decode(await self._call("POST", _path(session_id) + "/touch"), RemoteSession)

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """End the session; False when there was none (or when a repetition met the end that an earlier try made)."""
        try:
            await self._call("DELETE", _path(session_id), revision=expected_revision)
        except SessionNotFoundError:
            return False
        return True

    async def revoke_user(self, user_id: str) -> int:
        """End all sessions of a user; the number that ended. Needs the scope `admin`."""
        answer = await self._call("DELETE", f"/v1/users/{quote(user_id, safe='')}/sessions")
        return _decode(answer, dict[str, int])["deleted"]

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        order: Literal["newest", "oldest"] = "newest",
    ) -> RemotePage:
        """One page of live sessions."""
        query = {"user_id": user_id, "agent_id": agent_id, "cursor": cursor, "limit": str(limit), "order": order}
        given = {name: value for name, value in query.items() if value is not None}
        return _decode(await self._call("GET", "/v1/sessions", query=given), RemotePage)

    async def iterate(self, *, user_id: str | None = None, agent_id: str | None = None) -> AsyncIterator[RemoteSession]:
        """All live sessions of the list, page by page, newest first."""
        cursor: str | None = None
        while True:
            page = await self.list_sessions(user_id=user_id, agent_id=agent_id, cursor=cursor)
            for session in page.sessions:
                yield session
            cursor = page.cursor
            if cursor is None:
                return

    async def count_active(self) -> int:
        """The number of live sessions."""
        return _decode(await self._call("GET", "/v1/sessions/count"), dict[str, int])["active"]

    async def statistics(self) -> Statistics:
        """What the store holds and has seen."""
        return _decode(await self._call("GET", "/v1/statistics"), Statistics)

    async def _change(
        self, method: str, session_id: str, data: Mapping[str, Any], revision: str | None
    ) -> httpx.Response:
        # A repetition of a change that did take effect would meet its own new revision.
        repeatable = revision is None
        return await self._call(
            method, _path(session_id), body={"data": dict(data)}, revision=revision, repeatable=repeatable
        )

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: dict[str, str] | None = None,
        revision: str | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        """Send until it is answered, refused for good, or too late."""
        headers: dict[str, str] = {} if revision is None else {"if-match": f'"{revision}"'}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = _encode(body)
        limit = time.monotonic() + self._deadline
        while True:
            try:
                answer = await self._http.request(method, path, content=content, params=query, headers=headers)
                return _checked(answer, path)
            except httpx.ConnectError as error:
                failure = StoreUnavailableError("service", type(error).__name__)
                pause = 0.1
            except httpx.TransportError as error:
                kind = StoreUnavailableError if method == "GET" else OutcomeUnknownError
                failure = kind("service", type(error).__name__)
                pause = 0.1
            except StoreUnavailableError as error:
                failure = error
                pause = 1.0
            pause *= random.uniform(0.5, 1.5)  # noqa: S311 - keeps clients apart, no secret
            unknown = isinstance(failure, OutcomeUnknownError)
            if (unknown and not repeatable) or time.monotonic() + pause > limit:
                raise failure
            await asyncio.sleep(pause)


def _path(session_id: str) -> str:
    if not is_id(session_id):
        raise SessionNotFoundError("no session can have this id")
    return f"/v1/sessions/{quote(session_id, safe='')}"


def _decode(answer: httpx.Response, kind: type[Result]) -> Result:
    return msgspec.json.decode(answer.content, type=kind)


def _checked(answer: httpx.Response, path: str) -> httpx.Response:
    """The answer if it is a good one, else the error that its problem detail stands for."""
    if answer.status_code < 400:
        return answer
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()  # of something between the service and us
    kind = problem.type.rpartition(":")[2]
    detail = problem.detail or f"HTTP {answer.status_code}"
    if answer.status_code == 404 and kind == "session-not-found":
        raise SessionNotFoundError(detail)
    if answer.status_code == 412:
        raise RevisionConflictError(path.rpartition("/")[2], answer.headers.get("etag", "").strip('"'))
    if answer.status_code == 413:
        raise SessionTooLargeError(detail)
    if answer.status_code in (400, 422):
        raise InvalidSessionError(detail)
    if kind == "outcome-unknown":
        raise OutcomeUnknownError("service", detail)
    if answer.status_code in (502, 503, 504):
        raise StoreUnavailableError("service", detail)
    raise ServiceRefusedError(f"{answer.status_code}: {detail}")
