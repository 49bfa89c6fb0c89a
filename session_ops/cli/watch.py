"""`session-ops migrate watch`: what the service's callers get, and whether that is worse than before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from session_ops.cli.frame import PRECONDITION, as_json, fail, result, run, settings_or_exit

if TYPE_CHECKING:
    from session_ops.migration.watch import Traffic


@click.command("watch")
@click.option("--metrics", multiple=True, required=True, metavar="URL", help="A host's /metrics; repeatable.")
@click.option("--seconds", type=click.FloatRange(0.1, 3_600), default=30.0, show_default=True, help="How long.")
@click.option("--before", metavar="JSON", help="What this has printed with --json earlier; it must not be worse now.")
@click.option("--p99-limit", type=click.FloatRange(1), default=100.0, show_default=True, metavar="MS",
              help="Below this the p99 may rise.")  # fmt: skip
@as_json
def watch(*, metrics: tuple[str, ...], seconds: float, before: str | None, p99_limit: float, as_json: bool) -> None:
    """Count requests, errors (5xx) and p99 of all hosts for some seconds.

    With --before it says whether callers are worse off: more than 0.1 % more of the requests fail, the p99 is over the
    limit and higher than it was, or a host does not answer. Below 100 requests nothing is said of errors and p99.

    Exit code 3: they are worse off.

    \b
    Examples:
      session-ops migrate watch --metrics http://app1:8080/metrics --json
      session-ops migrate watch --metrics http://app1:8080/metrics --before '{"seconds": 30, ...}'
    """
    from session_ops.migration.watch import Traffic, worse  # noqa: PLC0415 - not needed for --help
    from session_ops.migration.watch import watch as look  # noqa: PLC0415

    try:
        earlier = msgspec.json.decode(before, type=Traffic) if before else None
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"not what `migrate watch --json` prints: {error}", param_hint="--before") from error
    seen = run(look(metrics, seconds), settings_or_exit())
    reasons = worse(earlier, seen, p99_limit) if earlier is not None else []
    answer: dict[str, Any] = {**msgspec.to_builtins(seen), "worse": reasons}
    result(answer, lambda: _said(seen), as_json=as_json)
    if reasons:
        fail("; ".join(reasons), PRECONDITION)


def _said(seen: Traffic) -> str:
    p99 = "none" if seen.p99_ms is None else f"{seen.p99_ms:g} ms"
    silent = "".join(f"\nsilent       {url}" for url in seen.silent)
    return f"{seen.requests:,} requests in {seen.seconds:g} s, {seen.errors:,} errors, p99 {p99}{silent}"
