"""What the legacy store says: whether it is reached, prepared, and what the control tables tell of the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from session_ops.bump import abandoned_after
from session_ops.doctor.findings import Finding, finding
from session_ops.errors import HeldError, PreconditionError, UnfinishedError
from session_ops.healing import too_many_bumps
from session_ops.migration.fitness import refusals
from session_ops.migration.gates import hosts_flaws
from session_ops.migration.inspection import inspect
from session_ops.migration.names import Names
from session_ops.migration.plan import plan
from session_ops.migration.stages import BEGUN, STOPPED
from session_ops.migration.work import at_work
from session_ops.readiness_rules import UNPREPARED
from session_ops.stores.legacy_columns import named_columns, read_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from session_ops.migration.run_records import Lock, Run, Target
    from session_ops.migration.stages import Stage
    from session_ops.records import StoreState
    from session_ops.settings import Settings
    from session_ops.stores.control_store import ControlRow, HostRow
    from session_ops.stores.legacy_database import Database

_AWAY: Final = frozenset({"unreachable", "timeout", "busy", "queue full"})
_REFUSED: Final = "authentication failed"
_HOSTS: Final = {"missing": "hosts-silent", "silent": "hosts-silent", "late": "host-late", "cut off": "host-cut-off"}


def connection_findings(state: StoreState) -> Iterator[Finding]:
    """Why it does not serve."""
    if state.state == "up":
        return
    reason = state.reason or ""
    if reason in UNPREPARED:
        yield finding("not-prepared", f"the legacy store: {reason}")
    elif reason in _AWAY:
        yield finding("legacy-unreachable", f"the legacy store: {reason}")
    elif reason == _REFUSED:
        yield finding("legacy-password", f"the legacy store: {reason}")
    else:
        yield finding("legacy-refuses", f"the legacy store: {reason}")


async def table_findings(settings: Settings, database: Database) -> list[Finding]:
    """What prepare would still do to the table, which it is asked for and not told to do."""
    names = Names(settings.legacy_table, read_columns(settings.legacy_columns), database.engine.dialect)
    try:
        async with at_work(database) as work:
            facts = await inspect(work, names)
    except HeldError:
        return []  # somebody prepares it just now
    except (PreconditionError, UnfinishedError) as error:
        return [finding("prepare-unfinished", str(error))]
    if facts.mode == "final":
        return []  # Redis alone has the sessions, and this table needs nothing
    if refused := refusals(facts, names, named_columns(settings.legacy_columns)):
        return [finding("prepare-unfinished", "; ".join(refused))]
    steps = [step.name for step in plan(facts, names, "doctor")]
    if not steps:
        return []
    return [finding("prepare-unfinished", f"{settings.legacy_table}: steps are left: {', '.join(steps)}")]


def control_findings(control: ControlRow, lease: float, target: Target | None) -> Iterator[Finding]:
    """What the control row tells."""
    if control.mode == "hold":
        yield finding("mode-hold", "the mode is hold")
    if control.closing is not None:
        since = (control.now - (control.closing_at or control.now)) / 1000
        if since > abandoned_after(lease):
            yield finding("bump-stuck", f"generation {control.generation} has been closing for {since:.0f} s")
    if too_many_bumps(control):
        yield finding("bumps-halted", f"{len(control.bumped_at)} automatic bumps within ten minutes")
    if control.redis == "away":
        yield finding("redis-away", f"generation {control.generation} is without Redis")
    if control.redis == "off" and target is not None and target.to_redis:
        yield finding("redis-off", f"the stage row wants {target.text}; Redis is off")


def host_findings(reports: Sequence[HostRow], control: ControlRow, target: Target | None) -> Iterator[Finding]:
    """What the serving processes tell of themselves."""
    for kind, reason in hosts_flaws(reports, (), control):
        yield finding(_HOSTS[kind], reason)
    live = [row for row in reports if row.live]
    releases = sorted({str(row.release) for row in live})
    if len(releases) > 1:
        yield finding("releases-differ", f"releases in the fleet: {', '.join(releases)}")
    if target is None or control.mode == "final":
        return
    other = sorted({row.host for row in live if (row.percent if row.use_redis else 0) != target.share})
    if other:
        yield finding("flags-differ", f"the stage row wants {target.share} %; {', '.join(other)} has another flag")


def migration_findings(stage: Stage, lock: Lock, held: Lock | None, latest: Run | None) -> Iterator[Finding]:
    """What was begun and not ended. `held`: the lock, where a live operator has it."""
    last = stage.steps[0] if stage.steps else None
    if last is not None and last.state == STOPPED:
        yield finding("step-stopped", f"step {last.step}, begun by {last.began_by}: {last.reason}")
    if last is not None and last.state == BEGUN and held is None and lock.now - last.began_at > _LEFT_AFTER:
        minutes = (lock.now - last.began_at) / 60_000
        yield finding("step-left", f"step {last.step}, begun by {last.began_by} {minutes:.0f} minutes ago")
    if latest is not None and latest.state == "running" and held is None:
        yield finding("run-left", f"run {latest.run_id}, begun by {latest.started_by}")
    if latest is not None and latest.state == "stopped":
        yield finding("run-stopped", f"run {latest.run_id}, begun by {latest.started_by}: {latest.reason}")


_LEFT_AFTER: Final = 15 * 60_000
"""Milliseconds for which a step may stand begun with nobody at work: flags are flipped, callers are watched."""
