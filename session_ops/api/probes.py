"""The open routes: is the process there, can it serve, what does it measure, what is the contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import falcon

from session_ops.api.bodies import encode
from session_ops.exposition import CONTENT_TYPE, render

if TYPE_CHECKING:
    from falcon.asgi import Request, Response

    from session_ops.metrics import Metrics
    from session_ops.readiness import Readiness


class HealthResource:
    """/healthz: the process answers. Nothing else is asked, so that a dead store restarts no service."""

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Always 200."""
        resp.data = b'{"status":"ok"}'


class ReadyResource:
    """/readyz: this host can serve."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def on_get(self, _req: Request, resp: Response) -> None:
        """200 or 503, and each store by itself."""
        report = await self._readiness.report()
        resp.status = falcon.HTTP_200 if report.ready else falcon.HTTP_503
        resp.data = encode(report)


class MetricsResource:
    """/metrics: Prometheus."""

    def __init__(self, metrics: Metrics, readiness: Readiness) -> None:
        self._metrics = metrics
        self._readiness = readiness

    async def on_get(self, _req: Request, resp: Response) -> None:
        """What all workers have counted, and what the stores say now."""
        samples = await self._readiness.samples()
        resp.content_type = CONTENT_TYPE
        resp.data = render(self._metrics, samples)


class ContractResource:
    """/openapi.json: the contract."""

    def __init__(self) -> None:
        self._document = Path(__file__).with_name("openapi.json").read_bytes()

    async def on_get(self, _req: Request, resp: Response) -> None:
        """The same document as openapi.yaml."""
        resp.data = self._document
