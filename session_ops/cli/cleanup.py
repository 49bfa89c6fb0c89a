"""`session-ops cleanup`."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING

import click

from session_ops.cli.frame import (
    PRECONDITION,
    as_json,
    execute,
    fail,
    repository,
    result,
    run,
    settings_or_exit,
)

if TYPE_CHECKING:
    from session_ops.settings import Settings


@click.command("cleanup")
@execute
@as_json
def command(*, execute: bool, as_json: bool) -> None:
    """Remove ended sessions now and tell the agent manager, as the service does every SESSION_CLEANUP_INTERVAL.

    One process of the fleet cleans at a time: exits with 3 when another is at it for longer than a dead one could be.

    \b
    Example:
      session-ops cleanup --execute
    """
    settings = settings_or_exit()
    if not execute:
        says = "would remove ended sessions until there are none left; add --execute"
        result({"changed": False, "cleaned": 0}, lambda: says, as_json=as_json)
        return
    cleaned = run(_clean(settings), settings)
    if cleaned is None:
        fail("another process is cleaning, and goes on until there is nothing left", PRECONDITION)
    result({"changed": cleaned > 0, "cleaned": cleaned}, lambda: f"cleaned {cleaned}", as_json=as_json)


async def _clean(settings: Settings) -> int | None:
    from session_ops.agents import load_agent_manager  # noqa: PLC0415 - not needed for --help
    from session_ops.cleanup import LEASE  # noqa: PLC0415
    from session_ops.logs import configure_logs  # noqa: PLC0415
    from session_ops.service import SessionService  # noqa: PLC0415

    configure_logs(settings.session_log_level)
    holder = f"{socket.gethostname()}:{os.getpid()}"
    limit = time.monotonic() + LEASE + 1
    async with repository(settings) as sessions:

        async def leads(task: str, seconds: float) -> bool:
            return await sessions.lead(task, holder, seconds)

        service = SessionService(
            sessions,
            cleanup_batch_size=settings.session_cleanup_batch_size,
            agent_manager=load_agent_manager(settings.session_agent_manager),
            leads=leads,
        )
        while True:
            cleaned = await service.cleanup.run()
            if cleaned is not None or time.monotonic() >= limit:
                return cleaned
            await asyncio.sleep(0.2)
