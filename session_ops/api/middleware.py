"""What every request passes: request id, token and scope, and the clock."""

from __future__ import annotations

import itertools
import re
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Any

from session_ops.api.problems import Problem

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from session_ops.api.tokens import Tokens
    from session_ops.metrics import Histogram, Metrics

DURATION = "session_ops_http_request_duration_seconds"
STARTED = "session_ops.started"
"""Where the scope carries the moment at which the short way (plain.py) began with a request."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Gate:
    """Falcon middleware. A resource says in `scopes` which scope each of its methods needs; without it, it is open."""

    def __init__(self, tokens: Tokens, metrics: Metrics) -> None:
        self._tokens = tokens
        self._metrics = metrics
        self._prefix = secrets.token_hex(6)
        self._number = itertools.count(1)
        self._series: dict[tuple[str, str | None, str], Histogram] = {}

    def request_id(self, given: str | None) -> str:
        """The request's id: the caller's own where it is a decent one."""
        if given is None or _REQUEST_ID(given) is None:
            return f"{self._prefix}-{next(self._number):x}"
        return given

    async def process_request(self, req: Request, resp: Response) -> None:
        """Start the clock and give the request its id."""
        context = req.context
        context.started = req.scope.get(STARTED) or perf_counter()
        context.request_id = self.request_id(req.get_header("x-request-id"))
        resp.set_header("x-request-id", context.request_id)

    async def process_resource(self, req: Request, _resp: Response, resource: Any, _params: dict[str, Any]) -> None:
        """Check token and scope where the resource asks for them."""
        scopes: dict[str, str] | None = getattr(resource, "scopes", None)
        if scopes is None:
            return
        needed = scopes.get(req.method)
        if needed is None:
            return  # the method is not known here, and 405 needs no token
        granted = self._tokens.scopes_of(req.get_header("authorization"))
        if granted is None:
            raise Problem(
                401,
                "unauthorized",
                "send `Authorization: Bearer TOKEN` with a token that this service knows",
                {"www-authenticate": 'Bearer realm="session-ops"'},
            )
        if needed not in granted:
            raise Problem(
                403,
                "forbidden",
                f"this needs a token with the scope {needed!r}",
                {"www-authenticate": f'Bearer realm="session-ops", error="insufficient_scope", scope="{needed}"'},
            )

    async def process_response(self, req: Request, resp: Response, _resource: Any, _succeeded: bool) -> None:
        """Stop the clock."""
        status = resp.status
        key = (req.method, req.uri_template, status if isinstance(status, str) else str(status))
        series = self._series.get(key)
        if series is None:
            method = req.method if req.method in _METHODS else "other"
            series = self._metrics.histogram(DURATION, method, req.uri_template or "none", str(resp.status_code))
            if method != "other":  # else a caller could fill the memory with made-up methods
                self._series[key] = series
        series.observe(perf_counter() - req.context.started)
