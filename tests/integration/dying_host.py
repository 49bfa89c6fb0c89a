"""One host's cleanup, which dies at a named point of it.

Dies by SIGKILL: `taken` (ends were given out, none told), `telling` (the manager has one and has not returned), `told`
(a batch was heard, none confirmed), `confirmed` (the first batch is over). `never` cleans to the end.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from typing import TYPE_CHECKING, Any

from session_ops.service import SessionService
from session_ops.stores.connection import Connection
from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_database import Database
from session_ops.stores.redis import RedisSessionRepository
from tests.servers import SERVICE_PASSWORD, SERVICE_USER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from session_ops.agents import AgentState
    from session_ops.records import Ended, Session
    from session_ops.stores.contract import SessionRepository

PREFIX = "1-dying"
POINTS = ("taken", "telling", "told", "confirmed")
BATCH = 3


class Dying:
    """Passes everything on to a repository, and dies between two of its calls."""

    def __init__(self, inner: SessionRepository, point: str) -> None:
        self._inner = inner
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def clean(self, limit: int) -> list[Ended]:
        ended = await self._inner.clean(limit)
        die_at("taken", self._point)
        return ended

    async def told(self, ended: Sequence[Ended]) -> None:
        die_at("told", self._point)
        await self._inner.told(ended)
        die_at("confirmed", self._point)


class Pool:
    """Writes down what it hears."""

    def __init__(self, heard: Path, point: str) -> None:
        self._heard = heard
        self._point = point

    async def attach(self, session: Session) -> None:
        raise AssertionError(session.id)

    async def release(self, ended: Ended) -> None:
        with self._heard.open("a") as file:
            file.write(f"{ended.id} {ended.ended_at} {ended.cause}\n")
        die_at("telling", self._point)

    async def state(self, session_id: str) -> AgentState:
        del session_id
        return "unknown"


def die_at(point: str, chosen: str) -> None:
    if point == chosen:
        os.kill(os.getpid(), signal.SIGKILL)


async def clean(store: str, point: str, heard: Path) -> None:
    """Clean the store (a Redis port or a database URL); `heard` gets a line for every end that was told."""
    repository: RedisSessionRepository | LegacySessionRepository
    if store.isdecimal():
        connection = Connection("127.0.0.1", int(store), username=SERVICE_USER, password=SERVICE_PASSWORD, deadline=5)
        repository, close = RedisSessionRepository(connection, prefix=PREFIX), connection.close
    else:
        database = Database(store, deadline=5)
        repository, close = LegacySessionRepository(database), database.close
    # Everybody leads: what a dead host leaves is to be found at once
    service = SessionService(Dying(repository, point), agent_manager=Pool(heard, point), cleanup_batch_size=BATCH)
    await service.cleanup.run()
    await close()


def run(store: str, point: str, heard: Path) -> int:
    """Clean in a process of its own, and its exit status: below 0 the signal that has ended it."""
    # A fork: starting Python anew takes a second
    process = multiprocessing.get_context("fork").Process(target=_run, args=(store, point, heard))
    process.start()
    process.join(30)
    assert process.exitcode is not None
    return process.exitcode


def _run(store: str, point: str, heard: Path) -> None:
    asyncio.run(clean(store, point, heard))
