"""The verdict on a rehearsal: what was not as it must be misses a goal, and nothing else does."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.ledger.answers import Answer, Outcome
from tests.ledger.phases import Phase
from tests.ledger.report import Report
from tests.rehearsal import report as report_module
from tests.rehearsal.report import figures, tell
from tests.rehearsal.run import Taken
from tests.rehearsal.steps import DESTROYED, ROLLBACK, Step

if TYPE_CHECKING:
    from pathlib import Path


def taken(
    step: Step = ROLLBACK,
    *,
    failed: int = 0,
    silence: float = 0.2,
    one_session: float = 0.3,
    problems: tuple[str, ...] = (),
) -> Taken:
    phase = Phase(step.name, 1.0, ended=3.0, silence={"overall": silence, "one session": one_session})
    phase.note(Answer(Outcome.DONE, "", None, 1.0, 1.01), changes=True)
    for _ in range(failed):
        phase.note(Answer(Outcome.NOTHING, "store-unavailable", None, 1.0, 1.1), changes=True)
    return Taken(step, phase, list(problems))


def report(*steps: Taken, **changes: Any) -> Report:
    whole = Phase("all", 0.0, ended=9.0)
    for each in steps:
        whole.requests += each.phase.requests
        whole.acknowledged_writes += each.phase.acknowledged_writes
        whole.failed += each.phase.failed
    values: dict[str, Any] = {
        "seed": 1,
        "hosts": [],
        "checked": 5,
        "confirmed": 5,
        "unread": 0,
        "undecided": 0,
        "found": {},
        "held_back": 0,
        "whole": whole.figures(),
        "phases": [],
        "stories": [],
    }
    return Report(**{**values, **changes})


def missed(*steps: Taken, spoilt: frozenset[str] = frozenset(), slack: float = 1.0, **changes: Any) -> list[str]:
    return [each.name for each in figures([*steps], report(*steps, **changes), set(spoilt), slack) if not each.ok]


def test_a_rehearsal_in_which_all_held_misses_nothing() -> None:
    assert missed(taken(), taken(DESTROYED, failed=3)) == []


def test_a_request_may_fail_only_where_redis_is_destroyed() -> None:
    assert missed(taken(failed=2), taken(DESTROYED, failed=3)) == [
        "failed requests, but where Redis is destroyed",
        "rollback: failed requests",
        "rollback: failed, store-unavailable",
    ]


def test_a_request_that_fails_between_the_steps_counts_as_well() -> None:
    step = taken()
    whole = report(step).whole | {"failed": {"timeout": 1}}
    assert missed(step, whole=whole) == ["failed requests, but where Redis is destroyed"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"found": {"lost": 1}}, "sessions lost"),
        ({"found": {"resurrected": 1}}, "sessions resurrected"),
        ({"found": {"stale": 1}}, "sessions stale"),
        ({"unread": 1}, "sessions unread or undecided"),
        ({"undecided": 1}, "sessions unread or undecided"),
        ({"spoilt": frozenset({"visit-1"})}, "untouched sessions that are not as they were"),
    ],
)
def test_each_thing_that_must_never_be_misses_its_goal(changes: dict[str, Any], name: str) -> None:
    assert missed(taken(), **changes) == [name]


def test_a_silence_is_judged_by_its_step_and_by_how_busy_the_machine_may_be() -> None:
    assert missed(taken(silence=2)) == ["rollback: longest silence, overall"]
    assert missed(taken(silence=2), slack=2.0) == []
    assert missed(taken(one_session=4)) == ["rollback: longest silence, one session"]
    assert missed(taken(DESTROYED, one_session=21)) == []
    assert missed(taken(DESTROYED, one_session=23)) == ["Redis destroyed, rollback: longest silence, one session"]


def test_what_did_not_hold_is_said_and_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report_module, "OUT", tmp_path)
    monkeypatch.setattr("tests.bench.report.OUT", tmp_path)
    well = taken()
    assert tell([well], report(well), [], set(), 1.0) == 0
    written = json.loads((tmp_path / "rehearsal.json").read_text())
    assert {"name", "unit", "goal", "value", "runs", "ok"} == set(written[0])
    assert tell([taken(problems=("9 sessions are in Redis",))], report(well), [], set(), 1.0) == 1
    assert tell([well], report(well), ["a playbook failed"], set(), 1.0) == 1
    assert tell([well], report(well, checked=0), [], set(), 1.0) == 1
    assert tell([well], report(well), [], {"visit-1"}, 1.0) == 1
    shown = capsys.readouterr()
    said = shown.err
    assert re.search(r"untouched sessions that are not as they were +1  count +<= 0 +NO", shown.out)
    assert shown.out.count("\nrollback ") == 5, "each step has its line"
    for words in ("rollback: 9 sessions are in Redis", "a playbook failed", "the ledger has checked nothing"):
        assert f"NOT OK: {words}" in said
