"""The command line. Each command is a thin skin on a library call; the result goes to stdout, logs to stderr.

Exit codes: 0 ok, 2 usage or settings, 3 precondition, 4 somebody else is at it, 5 the stores do not agree, 6 legacy
store unreachable, 7 Redis unreachable, 8 interrupted, and the same command goes on.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

_COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve", "Serve the HTTP API."),
    "settings": ("settings", "Show the settings in force and where each value came from."),
    "generation": ("generation", "Show, open or bump the generation of keys in Redis."),
    "flag": ("flag", "Show or set this host's flag."),
    "sessions": ("sessions", "Look at sessions, and end them."),
    "cleanup": ("cleanup", "Remove ended sessions now and tell the agent manager."),
    "migrate": ("migrate", "Move an application's sessions into Redis, and back."),
    "doctor": ("doctor", "Look at everything from this host, and say what to do."),
    "rollback": ("rollback", "Every session back to the legacy store, also where Redis is lost."),
    "backup": ("backup", "Back up the Redis on this host, and prove that backups are good."),
}

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """Imports a command's module only when that command runs, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are met, not in the alphabet's."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"session_ops.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings=CONTEXT)
@click.version_option(package_name="session-ops", message="%(version)s")
def main() -> None:
    """Sessions in Redis: the service, and the tools of its operator.

    Settings come from the environment (`session-ops settings` lists them). Nothing that changes data runs without
    --execute. On a service host run it as root through /usr/local/sbin/session-ops, which knows the host's settings.

    \b
    Examples:
      session-ops serve --embedded             try the service on this machine
      session-ops settings --check             are the settings good?
      session-ops generation show --json       which generation of keys is in force?
      session-ops sessions list --user alice   what does alice have open?

    Exit codes: 0 ok, 2 usage or settings, 3 precondition, 4 somebody else is at it, 5 the stores do not agree, 6 legacy
    store unreachable, 7 Redis unreachable, 8 interrupted, and the same command goes on.
    """
