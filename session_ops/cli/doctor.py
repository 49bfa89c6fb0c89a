"""`session-ops doctor`: what is wrong, what it means, and the command that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from session_ops.cli.frame import as_json, result, run, settings_or_exit

if TYPE_CHECKING:
    from session_ops.doctor.examination import Examination
    from session_ops.settings import Settings


@click.command("doctor")
@click.option("--bundle", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write a support bundle (tar.gz) without secrets there.")  # fmt: skip
@as_json
def command(*, bundle: Path | None, as_json: bool) -> None:
    """Look at everything that this host can see, change nothing, and say what is wrong and what to do.

    Settings, secrets and disk of this host; both stores: connection, password, rights, latency, memory, persistence,
    versions; clocks; the control row, the hosts, the stage, runs and the audit; some sessions compared in both stores;
    this host's own service. Each finding has a name, under which docs/troubleshooting.md says more.

    Exit codes: 0 nothing, or warnings alone; 2 a setting is wrong; 3 something must be put right; 5 the stores do not
    agree, or the audit is broken; 6 and 7 the legacy store or Redis cannot be reached.

    \b
    Examples:
      session-ops doctor
      session-ops doctor --json
      session-ops doctor --bundle /root/bundle.tar.gz
    """
    settings = settings_or_exit()
    from session_ops.doctor.findings import code_of  # noqa: PLC0415 - not needed for --help

    seen, files = run(_examine(settings, bundle), settings)
    answer: dict[str, Any] = msgspec.to_builtins(seen)
    if bundle is not None:
        answer["bundle"] = {"path": str(bundle), "files": files}
    result(answer, lambda: _lines(seen, bundle), as_json=as_json)
    if code := code_of(seen.findings):
        raise click.exceptions.Exit(code)


async def _examine(settings: Settings, bundle: Path | None) -> tuple[Examination, list[str]]:
    from session_ops.doctor.examination import examine  # noqa: PLC0415 - not needed for --help

    seen = await examine(settings)
    if bundle is None:
        return seen, []
    from session_ops.doctor.bundle import contents, write  # noqa: PLC0415
    from session_ops.doctor.redaction import Redaction  # noqa: PLC0415

    files = contents(settings, seen, await _migration(settings))
    return seen, write(bundle, files, Redaction(settings))


async def _migration(settings: Settings) -> Any:
    """The migration's report, or why there is none."""
    from session_ops.cli.migration_stores import Opened, kept_in_redis  # noqa: PLC0415 - not needed for --help
    from session_ops.errors import PreconditionError, StoreUnavailableError  # noqa: PLC0415
    from session_ops.migration.report import report, report_of_kept  # noqa: PLC0415

    try:
        if not settings.legacy_database_url:
            return report_of_kept(await kept_in_redis(settings))
        async with Opened(settings) as opened:
            return await report(opened.store, opened.runs, opened.stages, opened.audit)
    except (PreconditionError, StoreUnavailableError) as error:
        return {"none": str(error)}


def _lines(seen: Examination, bundle: Path | None) -> str:
    lines = []
    for each in seen.findings:
        lines += [
            f"{each.severity:<8} {each.name}: {each.says}",
            f"         it means: {each.means}",
            f"         to mend it: {each.mend}",
        ]
    lines += [f"left out {what}: {why}" for what, why in seen.left_out.items()]
    errors = sum(each.severity == "error" for each in seen.findings)
    lines.append(f"-- looked at: {', '.join(seen.looked_at)}")
    found = f"errors {errors}, warnings {len(seen.findings) - errors}" if seen.findings else "nothing found"
    lines.append(f"-- {found}")
    if seen.findings:
        lines[-1] += "; docs/troubleshooting.md has more under each name"
    if bundle is not None:
        lines.append(f"-- written: {bundle}")
    return "\n".join(lines)
