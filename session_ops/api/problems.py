"""Every error of the API as a problem detail (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import falcon
import msgspec

from session_ops.errors import (
    InvalidSessionError,
    OutcomeUnknownError,
    RevisionConflictError,
    SessionNotFoundError,
    SessionTooLargeError,
    StoreUnavailableError,
)
from session_ops.logs import get_logger

if TYPE_CHECKING:
    from falcon.asgi import App, Request, Response

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 1
"""Seconds: a store that restarts is back after one or two, and clients add jitter of their own."""

_encode = msgspec.json.Encoder().encode


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """An error that the API itself finds: its status, a stable kind, and what to do about it."""

    def __init__(self, status: int, kind: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}


TITLES: dict[str, str] = {
    "bad-request": "The request is malformed",
    "unauthorized": "A valid token is needed",
    "forbidden": "The token lacks the scope",
    "not-found": "There is nothing here",
    "session-not-found": "No live session has this id",
    "method-not-allowed": "The resource does not know this method",
    "revision-conflict": "The session was changed by someone else",
    "too-large": "The request is too large",
    "unsupported-media-type": "The body must be JSON",
    "invalid-session": "A value is outside its limits",
    "internal-error": "The service made a mistake",
    "store-unavailable": "A store cannot serve; nothing was changed",
    "outcome-unknown": "The change may or may not take effect",
}
"""The kinds of problems; `type` is `urn:session-ops:problem:KIND`."""

_FALCON_KINDS = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
}

_log = get_logger()


def write_problem(
    req: Request, resp: Response, status: int, kind: str, *, detail: str, headers: dict[str, str] | None = None
) -> None:
    """Make `resp` a problem detail."""
    body: dict[str, Any] = {
        "type": f"urn:session-ops:problem:{kind}",
        "title": TITLES[kind],
        "status": status,
        "detail": detail,
        "request_id": getattr(req.context, "request_id", None),
    }
    resp.status = status
    resp.content_type = MEDIA_TYPE
    resp.text = None
    resp.data = _encode(body)
    for name, value in (headers or {}).items():
        resp.set_header(name, value)


def install_problems(app: App[Any, Any]) -> None:
    """Let `app` answer every error that can come up with a problem detail."""
    app.add_error_handler(Exception, _defect)
    app.add_error_handler(falcon.HTTPError, _framework)
    app.add_error_handler(Problem, _problem)
    app.add_error_handler(SessionNotFoundError, _not_found)
    app.add_error_handler(RevisionConflictError, _conflict)
    app.add_error_handler(InvalidSessionError, _invalid)
    app.add_error_handler(StoreUnavailableError, _unavailable)


async def _problem(req: Request, resp: Response, error: Problem, _params: Any) -> None:
    write_problem(req, resp, error.status, error.kind, detail=error.detail, headers=error.headers)


async def _framework(req: Request, resp: Response, error: falcon.HTTPError, _params: Any) -> None:
    kind = _FALCON_KINDS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal-error")
    headers = error.headers.items() if isinstance(error.headers, dict) else (error.headers or ())
    write_problem(req, resp, error.status_code, kind, detail=error.description or TITLES[kind], headers=dict(headers))


async def _not_found(req: Request, resp: Response, _error: SessionNotFoundError, _params: Any) -> None:
    write_problem(req, resp, 404, "session-not-found", detail="it never existed, was deleted, or has expired")


async def _conflict(req: Request, resp: Response, error: RevisionConflictError, _params: Any) -> None:
    detail = "If-Match does not name the session's revision in double quotes; read the session again"
    write_problem(req, resp, 412, "revision-conflict", detail=detail, headers={"etag": f'"{error.revision}"'})


async def _invalid(req: Request, resp: Response, error: InvalidSessionError, _params: Any) -> None:
    large = isinstance(error, SessionTooLargeError)
    write_problem(req, resp, 413 if large else 422, "too-large" if large else "invalid-session", detail=str(error))


async def _unavailable(req: Request, resp: Response, error: StoreUnavailableError, _params: Any) -> None:
    unknown = isinstance(error, OutcomeUnknownError)
    kind = "outcome-unknown" if unknown else "store-unavailable"
    _log.warning("request_refused", kind=kind, store=error.store, reason=error.reason, **_which(req))
    write_problem(req, resp, 503, kind, detail=str(error), headers={"retry-after": str(RETRY_AFTER)})


async def _defect(req: Request, resp: Response, error: Exception, _params: Any) -> None:
    _log.error("request_failed", error=type(error).__name__, exc_info=error, **_which(req))
    write_problem(req, resp, 500, "internal-error", detail="it has been logged under the request id")


def _which(req: Request) -> dict[str, Any]:
    """The request in the log: by route template, since a path holds a session id."""
    return {
        "method": req.method,
        "route": req.uri_template or "none",
        "request_id": getattr(req.context, "request_id", None),
    }
