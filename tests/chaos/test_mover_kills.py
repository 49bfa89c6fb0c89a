"""Movers that are killed leave nothing behind; whatever they did leave would be said."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.mover_kills import BATCH, Killed, figures, kill_movers
from tests.ledger.phases import Phase
from tests.ledger.report import Report

if TYPE_CHECKING:
    from pathlib import Path


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "seed": 1,
        "hosts": [],
        "checked": 5,
        "confirmed": 5,
        "unread": 0,
        "undecided": 0,
        "found": {},
        "held_back": 0,
        "whole": Phase("all", 0.0, ended=9.0).figures(),
        "phases": [],
        "stories": [],
    }
    return Report(**{**values, **changes})


@pytest.mark.alone
async def test_callers_do_not_notice_that_movers_die(tmp_path: Path) -> None:
    killed, seen = await kill_movers(tmp_path, kills=2, sessions=900, rate=50, seed=3)
    assert killed.at.total() == 2
    assert seen.checked > 10
    assert [each.name for each in figures(killed, seen) if not each.ok] == [], seen.table()


@pytest.mark.parametrize(
    ("killed", "changes", "name"),
    [
        ({"again": 2 * BATCH + 1}, {}, "sessions put again, per mover killed"),
        ({"left": 1}, {}, "sessions not moved by the last run"),
        ({"disagreements": ["visit-1: differs"]}, {}, "sessions on which the stores differ"),
        ({"spoilt": {"visit-1"}}, {}, "untouched sessions that are not as they were"),
        ({}, {"found": {"lost": 1}}, "sessions lost"),
        ({}, {"found": {"resurrected": 1}}, "sessions resurrected"),
        ({}, {"found": {"stale": 1}}, "sessions stale"),
        ({}, {"unread": 1}, "sessions unread or undecided"),
        ({}, {"whole": Phase("all", 0.0, failed=Counter(timeout=1)).figures()}, "failed requests"),
    ],
)
def test_each_thing_that_must_never_be_misses_its_goal(
    killed: dict[str, Any], changes: dict[str, Any], name: str
) -> None:
    seen = Killed(**{"at": Counter({"with a batch in work": 2}), **killed})
    assert [each.name for each in figures(seen, report(**changes)) if not each.ok] == [name]
