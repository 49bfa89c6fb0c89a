"""Whether a session's history can be explained by calls that took effect one after the other, and where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.linearizability.register import Rules, State, steps_of
from tests.linearizability.search import LIMIT, Search, Verdict
from tests.linearizability.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.linearizability.history import History, Operation

DEFAULT = Rules()
STORY = 10_000
"""Nodes that are looked at for what a session can have been."""


def check(operations: Sequence[Operation], rules: Rules = DEFAULT, *, limit: int = LIMIT) -> Violation | None:
    """Check the calls on one session; None: there is an order that explains every answer.

    Each call takes effect at one instant between its beginning and its answer; one that was refused never; one without
    an answer, or with an unknown outcome, once at any time after its beginning, or never. Raises `UndecidedError` when
    neither an order is found, nor all are excluded, within `limit` nodes of the search; `ValueError` for calls on
    several sessions.
    """
    if len({operation.session_id for operation in operations}) > 1:
        raise ValueError("one session at a time")
    verdict = _verdict(operations, rules, limit)
    if verdict.explained:
        return None
    answers = _answers(operations)
    # What is known of later answers can only shorten the search, so up to here all answers have an order.
    low, high = verdict.answers, len(answers) - 1
    while low < high:
        middle = (low + high) // 2
        if _verdict(operations, rules, limit, until=_finished(answers[middle])).explained:
            low = middle + 1
        else:
            high = middle
    return Violation.of(operations, answers[low], _possible(operations, answers[low], rules))


def check_all(history: History, rules: Rules = DEFAULT, *, limit: int = LIMIT) -> list[Violation]:
    """Check every session by itself; the violations, at most one for a session."""
    found = [check(history.operations(session_id), rules, limit=limit) for session_id in history.sessions()]
    return [violation for violation in found if violation is not None]


def assert_linearizable(history: History, rules: Rules = DEFAULT) -> None:
    """Raise `AssertionError` with the story of the first violation of every session that has one."""
    violations = check_all(history, rules)
    if violations:
        raise AssertionError("\n\n".join(str(violation) for violation in violations))


def _verdict(operations: Sequence[Operation], rules: Rules, limit: int, *, until: float = float("inf")) -> Verdict:
    return Search(steps_of(operations, until=until), rules, limit).run()


def _possible(operations: Sequence[Operation], last: Operation, rules: Rules) -> set[State]:
    """What the session can have been when an answer came, by the answers before it."""
    others = [one for one in operations if one is not last]
    return Search(steps_of(others, until=_finished(last)), rules, STORY).ends(STORY)


def _answers(operations: Sequence[Operation]) -> list[Operation]:
    """The calls whose answers say something, in the order in which the answers came."""
    telling = [one for one in operations if one.outcome not in {None, "refused", "unknown"}]
    return sorted(telling, key=_finished)


def _finished(operation: Operation) -> float:
    if operation.finished is None:
        raise ValueError("still running")
    return operation.finished
