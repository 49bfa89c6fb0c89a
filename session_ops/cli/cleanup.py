"""`session-ops cleanup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_ops.cli.frame import as_json, execute, redis_repository, require_generation, result, run, settings_or_exit

if TYPE_CHECKING:
    from session_ops.settings import Settings


@click.command("cleanup")
@execute
@as_json
def command(*, execute: bool, as_json: bool) -> None:
    """Remove ended sessions now and tell the agent manager, as the service does every SESSION_CLEANUP_INTERVAL.

    \b
    Example:
      session-ops cleanup --execute
    """
    settings = settings_or_exit()
    require_generation(settings)
    if not execute:
        says = "would remove ended sessions until there are none left; add --execute"
        result({"changed": False, "cleaned": 0}, lambda: says, as_json=as_json)
        return
    cleaned = run(_clean(settings), settings)
    result({"changed": cleaned > 0, "cleaned": cleaned}, lambda: f"cleaned {cleaned}", as_json=as_json)


async def _clean(settings: Settings) -> int:
    from session_ops.agents import load_agent_manager  # noqa: PLC0415 - not needed for --help
    from session_ops.logs import configure_logs  # noqa: PLC0415
    from session_ops.service import SessionService  # noqa: PLC0415

    configure_logs(settings.session_log_level)
    async with redis_repository(settings) as repository:
        service = SessionService(
            repository,
            cleanup_batch_size=settings.session_cleanup_batch_size,
            agent_manager=load_agent_manager(settings.session_agent_manager),
        )
        return await service.cleanup.run()
