"""Figures of a round or a soak in the form of every measurement, and the whole story in JSON beside them."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from tests.bench.report import OUT, Figure, publish
from tests.chaos.upsets import SILENCE
from tests.ledger.phases import ONE_SESSION, OVERALL

if TYPE_CHECKING:
    from tests.chaos.agreement import Agreement
    from tests.chaos.scenario import Trial
    from tests.chaos.upsets import Suffered
    from tests.ledger.report import Report


@dataclass
class Run:
    """All that a round or a soak has seen."""

    trials: list[Trial] = field(default_factory=list)
    suffered: list[Suffered] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What did not hold of the fleet as a whole."""


def tell(target: str, seed: int, run: Run) -> int:
    """Print everything, write `out/TARGET.json` and `out/TARGET-story.json`; returns the exit code: 1 for a failure."""
    trials, reports = run.trials, run.reports
    problems = [f"{each.name}: {problem}" for each in trials for problem in each.problems()]
    problems += [f"{each.upset.name}: {problem}" for each in run.suffered for problem in each.problems()]
    may_lose = any(trial.expected.loses for trial in trials)
    # What loses acknowledged writes loses ends as well, and shows what was acknowledged to nobody.
    problems += [
        f"the ledger found: {report.found}, unread {report.unread}, undecided {report.undecided}"
        for report in reports
        if report.unread or report.undecided or not report.checked or (report.found and not may_lose)
    ]
    problems += run.broken
    OUT.mkdir(exist_ok=True)
    story = {
        "seed": seed,
        "trials": [trial.figures() for trial in trials],
        "upsets": [each.figures() for each in run.suffered],
        "ledgers": [report.figures() for report in reports],
        "agreements": [asdict(agreement) for agreement in run.agreements],
        "problems": problems,
    }
    (OUT / f"{target}-story.json").write_text(json.dumps(story, indent=2) + "\n")
    status = publish(target, _figures(run, may_lose=may_lose))
    for report in reports:
        for told in report.stories:
            print(f"\n{told}", file=sys.stderr)
    for problem in problems:
        print(f"NOT OK: {problem}", file=sys.stderr)
    return 1 if problems else status


def _figures(run: Run, *, may_lose: bool) -> list[Figure]:
    def count(name: str, value: float, goal: str | None = None, unit: str = "count") -> Figure:
        return Figure(name=name, unit=unit, runs=[value], goal=goal)

    wholes = [report.whole for report in run.reports]
    never = "<= 0"
    figures = [
        count("faults injected", len(run.trials) + len(run.suffered)),
        count("requests", sum(whole["requests"] for whole in wholes)),
        count("acknowledged changes", sum(whole["acknowledged_writes"] for whole in wholes)),
        count("failed requests", sum(sum(whole["failed"].values()) for whole in wholes)),
        count("sessions lost", sum(report.lost for report in run.reports), None if may_lose else never),
        count("sessions resurrected", sum(report.resurrected for report in run.reports), None if may_lose else never),
        count("sessions stale", sum(report.stale for report in run.reports), None if may_lose else never),
        count("sessions unread or undecided", sum(each.unread + each.undecided for each in run.reports), never),
        count("sessions compared in both stores", sum(each.compared for each in run.agreements)),
        count("sessions that a host which died had left", sum(each.unsettled for each in run.agreements)),
        count("sessions on which the stores differ", sum(len(each.differ) for each in run.agreements), never),
        count("p99", max(whole["p99_ms"] or 0.0 for whole in wholes), unit="ms"),
    ]
    by_fault: dict[str, list[Trial]] = defaultdict(list)
    for trial in run.trials:
        by_fault[trial.fault.name].append(trial)
    for name, same in by_fault.items():
        for label in (OVERALL, ONE_SESSION):
            limit = same[0].limit(label)
            # A limit holds for every occurrence: the figure is the longest, its trials stand in the story.
            longest = max(trial.silence(label) for trial in same)
            figures.append(
                count(f"silence of {label}: {name}", longest, None if limit is None else f"<= {limit:g}", "s")
            )
    for each in run.suffered:
        figures += [
            count(f"failed requests: {each.upset.name}", each.phase.failed.total(), never),
            count(f"silence of {OVERALL}: {each.upset.name}", each.silence, f"<= {each.slack * SILENCE:g}", "s"),
        ]
    return figures
