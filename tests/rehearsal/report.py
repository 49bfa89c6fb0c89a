"""Figures of a rehearsal in the form of every measurement, and the whole story in JSON beside them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tests.bench.report import OUT, Figure, show, write
from tests.ledger.phases import ONE_SESSION, OVERALL

if TYPE_CHECKING:
    from tests.ledger.report import Report
    from tests.rehearsal.run import Taken

TARGET = "rehearsal"
NEVER = "<= 0"


def tell(taken: list[Taken], report: Report, broken: list[str], spoilt: set[str], slack: float) -> int:
    """Print everything and write it to `out/`; the exit code: 1 where a goal is missed or something did not hold.

    `spoilt`: sessions of the application that nobody has used and that are not as they were. `slack`: limits of silence
    are so many times as long.
    """
    problems = [f"{each.step.name}: {problem}" for each in taken for problem in each.problems] + broken
    if not report.checked:
        problems.append("the ledger has checked nothing")
    OUT.mkdir(exist_ok=True)
    story = {"ledger": report.figures(), "spoilt": sorted(spoilt)[:100], "problems": problems}
    (OUT / f"{TARGET}-story.json").write_text(json.dumps(story, indent=2) + "\n")
    measured = figures(taken, report, spoilt, slack)
    print(table(taken, measured))
    if missed := [each for each in measured if not each.ok]:
        show(missed)
    status = write(TARGET, measured)
    for told in report.stories:
        print(f"\n{told}", file=sys.stderr)
    for problem in problems:
        print(f"NOT OK: {problem}", file=sys.stderr)
    return 1 if problems else status


def figures(taken: list[Taken], report: Report, spoilt: set[str], slack: float) -> list[Figure]:
    """Of the whole rehearsal, then of each step."""

    def figure(name: str, value: float, goal: str | None = None, unit: str = "count") -> Figure:
        return Figure(name=name, unit=unit, runs=[value], goal=goal)

    whole = report.whole
    may_fail = sum(each.phase.failed.total() for each in taken if each.step.loses_redis)
    found = [
        figure("requests", whole["requests"]),
        figure("acknowledged changes", whole["acknowledged_writes"]),
        figure("failed requests, but where Redis is destroyed", sum(whole["failed"].values()) - may_fail, NEVER),
        figure("sessions lost", report.lost, NEVER),
        figure("sessions resurrected", report.resurrected, NEVER),
        figure("sessions stale", report.stale, NEVER),
        figure("sessions unread or undecided", report.unread + report.undecided, NEVER),
        figure("untouched sessions that are not as they were", len(spoilt), NEVER),
    ]
    for each in taken:
        name, phase = each.step.name, each.phase
        fails = None if each.step.loses_redis else NEVER
        p99 = phase.latency.percentile(99)
        found += [
            figure(f"{name}: time", (phase.ended or phase.started) - phase.started, unit="s"),
            figure(f"{name}: requests", phase.requests),
            figure(f"{name}: acknowledged changes", phase.acknowledged_writes),
            figure(f"{name}: failed requests", phase.failed.total(), fails),
            *(figure(f"{name}: failed, {reason}", count, fails) for reason, count in phase.failed.most_common()),
            figure(f"{name}: p99", 1000 * (p99 or 0.0), unit="ms"),
            *(
                figure(f"{name}: longest silence, {label}", phase.silence.get(label, 0.0), f"<= {slack * limit:g}", "s")
                for label, limit in ((OVERALL, each.step.silence), (ONE_SESSION, each.step.one_session))
            ),
        ]
    return found


def table(taken: list[Taken], measured: list[Figure]) -> str:
    """What is of the whole, then a line for each step."""
    lines = [f"\n{each.name:50} {each.value:>10,.0f}" for each in measured if ": " not in each.name]
    head = f"{'s':>6} {'requests':>9} {'changes':>8} {'failed':>7} {'p99 ms':>7} {'silence s':>10}"
    lines.append(f"\n\n{'step':30} {head} {'of one session s':>17}")
    for each in taken:
        phase = each.phase
        counts = f"{phase.requests:>9,} {phase.acknowledged_writes:>8,} {phase.failed.total():>7,}"
        silence = f"{phase.silence.get(OVERALL, 0.0):>10.2f} {phase.silence.get(ONE_SESSION, 0.0):>17.2f}"
        p99 = 1000 * (phase.latency.percentile(99) or 0.0)
        seconds = (phase.ended or phase.started) - phase.started
        lines.append(f"\n{each.step.name:30} {seconds:>6.0f} {counts} {p99:>7.0f} {silence}")
        lines += [f"\n{'':38}failed, {reason}: {count:,}" for reason, count in phase.failed.most_common()]
    return "".join(lines)
