"""`session-ops settings`."""

from __future__ import annotations

import click

from session_ops.cli.frame import USAGE, as_json, fail, result, settings_or_exit
from session_ops.errors import SettingsError
from session_ops.settings import shown
from session_ops.settings_table import SETTINGS


@click.command("settings")
@as_json
@click.option("--check", is_flag=True, help="Print nothing: exit with 0, or with 2 and the setting that is wrong.")
def command(*, as_json: bool, check: bool) -> None:
    """Show the settings in force and where each value came from; secrets are masked.

    \b
    Examples:
      session-ops settings
      session-ops settings --json
      SESSION_TTL=0 session-ops settings --check
    """
    settings = settings_or_exit()
    if check:
        from session_ops.serve.backend import check_parts  # noqa: PLC0415 - not needed for --help

        try:
            check_parts(settings)
        except SettingsError as error:
            fail(str(error), USAGE)
        return
    rows = [
        {
            "name": row.name,
            "value": shown(row, settings),
            "source": settings.sources[row.name],
            "type": row.kind,
            "default": row.default,
            "unit": row.unit,
            "meaning": row.meaning,
        }
        for row in SETTINGS
    ]

    def lines() -> str:
        width = max(len(row.name) for row in SETTINGS)
        return "\n".join(f"{row['name']:<{width}} = {row['value']!s:<24} # {row['source']}" for row in rows)

    result(rows, lines, as_json=as_json)
