"""One serving process: Redis, the service and the HTTP server, from start to drained."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from typing import TYPE_CHECKING

import uvicorn
import uvloop

from session_ops.agents import load_agent_manager
from session_ops.api.app import make_app
from session_ops.api.tokens import Tokens
from session_ops.errors import SettingsError
from session_ops.logs import get_logger
from session_ops.metrics import Metrics
from session_ops.readiness import Readiness
from session_ops.release import current_release
from session_ops.serve.backend import check_legacy, open_backend, process_name
from session_ops.serve.short import short_protocol
from session_ops.serve.sockets import BACKLOG
from session_ops.service import SessionService
from session_ops.settings import read_flag

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator
    from pathlib import Path

    from session_ops.api.app import Api
    from session_ops.serve.backend import Backend
    from session_ops.settings import Flag, Settings

KEEP_ALIVE = 75
"""Seconds: longer than the 60 for which load balancers keep a connection, or they would use one just closed here."""


class Announcements:
    """What a worker says of itself to whoever started it. By default nobody listens."""

    def ready(self) -> None:
        """It accepts connections, or has taken a new flag."""

    def reloading(self) -> None:
        """It has begun to read the flag again."""

    def stopping(self) -> None:
        """It has begun to drain."""


class Worker:
    """Serves until SIGTERM or SIGINT, or until `alive` (a pipe that the parent holds) ends; SIGHUP reads the flag."""

    def __init__(
        self,
        settings: Settings,
        sock: socket.socket,
        announcements: Announcements,
        *,
        metrics_directory: Path | None = None,
        number: int = 0,
        alive: int | None = None,
    ) -> None:
        """Raises `SettingsError` for what only shows when the parts are made."""
        self._settings = settings
        self._socket = sock
        self._announcements = announcements
        self._metrics = Metrics(metrics_directory, f"worker-{number}")
        self._alive = alive
        self._flag: Flag = settings.flag
        self._log = get_logger()
        self._tokens = Tokens.from_setting(settings.session_tokens)
        self._manager = load_agent_manager(settings.session_agent_manager)
        check_legacy(settings)
        self._server: _Server | None = None

    def run(self) -> None:
        """Serve, with an event loop of its own."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with open_backend(self._settings, lambda: self._flag, self._metrics) as backend:
            await self._serve_from(backend)
        self._log.info("worker_stopped")

    async def _serve_from(self, backend: Backend) -> None:
        settings, repository = self._settings, backend.repository
        host, pid = process_name()

        async def leads(task: str, seconds: float) -> bool:
            return await repository.lead(task, f"{host}:{pid}", seconds)

        service = SessionService(
            repository,
            cleanup_interval=settings.session_cleanup_interval,
            cleanup_batch_size=settings.session_cleanup_batch_size,
            agent_manager=self._manager,
            metrics=self._metrics,
            store=backend.name,
            leads=leads,
        )
        readiness = Readiness(
            service,
            backend.redis,
            lambda: self._flag,
            backend.rule,
            release=current_release(),
            workers=settings.session_workers,
            legacy=backend.legacy,
        )
        app = make_app(service, self._tokens, readiness, body_limit=settings.session_body_limit)
        self._server = _Server(_configuration(app, settings), self._started)
        self._handle_signals()
        async with service:
            await self._server.serve(sockets=[self._socket])

    def _started(self) -> None:
        # What was made until now lives as long as the process; without it a collection takes a fraction of the time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if not len(self._tokens):
            self._log.warning("no_tokens", setting="SESSION_TOKENS")
        self._log.info("worker_started", release=current_release(), tokens=len(self._tokens))
        self._announcements.ready()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if self._alive is not None:
            loop.add_reader(self._alive, self._orphaned, self._alive)

    def _stop(self) -> None:
        if self._server is not None and not self._server.should_exit:
            self._announcements.stopping()
            self._server.should_exit = True

    def _orphaned(self, alive: int) -> None:
        """The parent is gone, and nobody would ever stop this process."""
        asyncio.get_running_loop().remove_reader(alive)
        self._log.error("parent_gone")
        self._stop()

    def _reload(self) -> None:
        self._announcements.reloading()
        if self._settings.session_flag_file:
            try:
                self._flag = read_flag(self._settings.session_flag_file, self._settings.flag)
            except SettingsError as error:
                self._log.error("flag_refused", reason=str(error))
            else:
                self._log.info(
                    "flag_read",
                    use_redis_sessions=self._flag.use_redis_sessions,
                    session_redis_percent=self._flag.session_redis_percent,
                )
        self._announcements.ready()


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us and says when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _configuration(app: Api, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=short_protocol(settings.session_header_limit, app.plain),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=settings.session_drain_timeout,  # type: ignore[arg-type]
    )
