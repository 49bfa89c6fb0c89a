"""The ASGI application: routes to resources, behind one gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from falcon.asgi import App

from session_ops.api.middleware import Gate
from session_ops.api.plain import Plain
from session_ops.api.probes import ContractResource, HealthResource, MetricsResource, ReadyResource
from session_ops.api.problems import install_problems
from session_ops.api.segments import EncodedUsers
from session_ops.api.sessions import (
    CountResource,
    SessionResource,
    SessionsResource,
    StatisticsResource,
    TouchResource,
    UserSessionsResource,
)

if TYPE_CHECKING:
    from session_ops.api.segments import Application, Receive, Scope, Send
    from session_ops.api.tokens import Tokens
    from session_ops.readiness import Readiness
    from session_ops.service import SessionService


class Api:
    """The ASGI application, and beside it the short way that a server may try first."""

    def __init__(self, application: Application, plain: Plain) -> None:
        self._application = application
        self.plain = plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer any request."""
        await self._application(scope, receive, send)


def make_app(service: SessionService, tokens: Tokens, readiness: Readiness, *, body_limit: int) -> Api:
    """Put the application together. `body_limit` in bytes. Starting and stopping `service` is the caller's."""
    gate = Gate(tokens, service.metrics)
    app = App(middleware=[gate])
    app.req_options.auto_parse_qs_csv = False
    app.req_options.keep_blank_qs_values = True
    install_problems(app)
    app.add_route("/healthz", HealthResource())
    app.add_route("/readyz", ReadyResource(readiness))
    app.add_route("/metrics", MetricsResource(service.metrics, readiness))
    app.add_route("/openapi.json", ContractResource())
    app.add_route("/v1/sessions", SessionsResource(service, body_limit))
    app.add_route("/v1/sessions/count", CountResource(service))
    app.add_route("/v1/sessions/{session_id}", SessionResource(service, body_limit))
    app.add_route("/v1/sessions/{session_id}/touch", TouchResource(service))
    app.add_route("/v1/statistics", StatisticsResource(service))
    app.add_route("/v1/users/{user_id}/sessions", UserSessionsResource(service))
    return Api(EncodedUsers(cast("Application", app)), Plain(service, tokens, gate, body_limit=body_limit))
