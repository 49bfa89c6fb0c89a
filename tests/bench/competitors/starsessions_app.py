"""Starlette with starsessions on Redis, as its documentation sets it up; served by uvicorn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starsessions import SessionAutoloadMiddleware, SessionMiddleware
from starsessions.stores.redis import RedisStore

if TYPE_CHECKING:
    from starlette.requests import Request


async def fill(request: Request) -> Response:
    """Fill the session with the attributes in the body: creates it, or changes single attributes."""
    request.session.update(await request.json())
    return Response(status_code=204)


async def read(request: Request) -> Response:
    """The session's attributes."""
    return JSONResponse(request.session)


application = Starlette(
    routes=[Route("/", fill, methods=["POST"]), Route("/", read, methods=["GET"])],
    middleware=[
        Middleware(
            SessionMiddleware, store=RedisStore(os.environ["REDIS_URL"]), lifetime=86_400, cookie_https_only=False
        ),
        Middleware(SessionAutoloadMiddleware),
    ],
)
