"""`session-ops serve`."""

from __future__ import annotations

import os
import sys

import click

from session_ops.cli.frame import USAGE, fail, settings_or_exit
from session_ops.errors import SettingsError


@click.command("serve")
@click.option(
    "--embedded", is_flag=True, help="With a private Redis and a SQLite legacy store in REDIS_DATA_DIR; prints a token."
)
def command(*, embedded: bool) -> None:
    """Serve the HTTP API on the inherited socket, else on SESSION_LISTEN.

    SIGHUP reads SESSION_FLAG_FILE again; SIGTERM finishes running requests and ends.

    \b
    Examples:
      session-ops serve --embedded
      SESSION_LISTEN=127.0.0.1:8081 SESSION_WORKERS=2 session-ops serve
    """
    settings = settings_or_exit()
    from session_ops.serve.run import serve  # noqa: PLC0415 - half a second of imports that --help does not need

    try:
        if embedded:
            from session_ops.serve.embedded import serve_embedded  # noqa: PLC0415

            sys.exit(serve_embedded(settings, os.environ))
        sys.exit(serve(settings, os.environ))
    except SettingsError as error:
        fail(str(error), USAGE)
