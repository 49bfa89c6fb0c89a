"""The same question answered in the plainest way: every order is tried, every change names every revision.

No memory, no shortcut, and nothing in common with the search but the question: what the search is compared with.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.linearizability.history import Operation
    from tests.linearizability.register import Rules

Data = dict[str, Any] | None
State = tuple[str, Data, str | None]


def has_an_order(operations: Sequence[Operation], rules: Rules) -> bool:
    """Whether some order of the calls explains every answer. For a handful of calls without expiry."""
    relevant = [one for one in operations if one.outcome != "refused"]
    drawn = [one.revision for one in relevant if _changes(one) and _told(one) and one.revision is not None]
    if len(set(drawn)) < len(drawn):
        return False
    return any(_orders(relevant, ("never", None, None), names, rules) for names in _namings(relevant))


def _told(one: Operation) -> bool:
    return one.outcome not in {None, "unknown"}


def _changes(one: Operation) -> bool:
    return one.call.kind in {"create", "update", "replace"} and one.outcome in {None, "unknown", "answered"}


def _namings(operations: Sequence[Operation]) -> Iterator[dict[int, str]]:
    """Every way in which the changes can have drawn the revisions that were seen."""
    drawn = {id(one): one.revision for one in operations if _changes(one) and _told(one) and one.revision is not None}
    seen = {one.revision for one in operations if not _changes(one)} | {
        one.call.expected_revision for one in operations
    }
    unnamed = [id(one) for one in operations if _changes(one) and id(one) not in drawn]
    open_names = sorted(name for name in seen if name is not None and name not in drawn.values())
    fresh = [f"fresh{number}" for number in range(len(unnamed))]
    for names in set(itertools.permutations([*open_names, *fresh], len(unnamed))):
        yield {**{key: name for key, name in drawn.items() if name}, **dict(zip(unnamed, names, strict=True))}


def _orders(left: Sequence[Operation], state: State, names: dict[int, str], rules: Rules) -> bool:
    if not any(_told(one) for one in left):
        return True
    first_answer = min(one.finished for one in left if _told(one) and one.finished is not None)
    for one in left:
        if one.started > first_answer:
            continue
        others = [other for other in left if other is not one]
        after = _after(state, one, names, rules)
        if after is not None and _orders(others, after, names, rules):
            return True
        if rules.dirty_reads and _seen_early(state, one, others, names, rules) and _orders(others, state, names, rules):
            return True
    return False


def _after(state: State, one: Operation, names: dict[int, str], rules: Rules) -> State | None:
    phase, data, _ = state
    kind, outcome = one.call.kind, one.outcome if _told(one) else None
    if outcome in {"exists", "absent"}:
        return state if phase in {"exists": ("alive", "ended"), "absent": ("never", "ended")}[outcome] else None
    if kind == "create":
        return _written(one, one.call.data, names) if phase == "never" else None
    if phase == "alive" and data is not None:
        return _found(state, data, one, names)
    return state if (outcome, phase) == ("ended", "ended") and rules.repeated_ends else None


def _found(state: State, data: dict[str, Any], one: Operation, names: dict[int, str]) -> State | None:
    call, revision = one.call, state[2]
    if _told(one) and one.outcome == "conflicted":
        return state if revision != call.expected_revision and one.revision in {None, revision} else None
    if call.expected_revision not in {None, revision}:
        return None
    if call.kind == "delete":
        return ("ended", None, None)
    if call.kind in {"get", "touch"}:
        return state if not _told(one) or _shows(state, one) else None
    kept = {} if call.kind == "replace" else data
    return _written(
        one, {name: value for name, value in {**kept, **call.data}.items() if name not in call.remove}, names
    )


def _written(one: Operation, data: dict[str, Any], names: dict[int, str]) -> State | None:
    fits = one.data is None or one.data == data
    return ("alive", dict(data), names[id(one)]) if fits else None


def _shows(state: State, one: Operation) -> bool:
    return one.data in (None, state[1]) and one.revision in {None, state[2]}


def _seen_early(state: State, one: Operation, others: Sequence[Operation], names: dict[int, str], rules: Rules) -> bool:
    reads = one.outcome == "answered" and one.call.kind in {"get", "touch"}
    if state[0] != "alive" or one.finished is None or not (reads or (one.outcome == "conflicted" and one.revision)):
        return False
    begun = [
        other for other in others if _changes(other) and other.call.kind != "create" and other.started <= one.finished
    ]
    for length in range(1, len(begun) + 1):
        for chain in itertools.permutations(begun, length):
            at: State | None = state
            for other in chain:
                at = None if at is None else _after(at, other, names, rules)
            if at is not None and _shows(at, one):
                return True
    return False
