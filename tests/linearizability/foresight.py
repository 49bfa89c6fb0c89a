"""Reads that show changes before they count: written to Redis, not yet in the legacy store, and perhaps never."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.linearizability.register import Attributes, Register, State, Step


class _UnderWay(NamedTuple):
    """Changes that may be seen early, and how many of them in a row."""

    numbers: tuple[int, ...]
    longest: int


class Foresight:
    """Which changes under way can explain what a read was answered."""

    def __init__(self, steps: Sequence[Step], register: Register) -> None:
        self._steps, self._register = steps, register
        changes = [step for step in steps if step.call.kind in {"update", "replace"}]
        self._changes = [step.number for step in changes if step.told in {None, "answered"}]
        self._known: dict[tuple[State, int, _UnderWay], list[State]] = {}

    def shows(self, state: State, number: int, done: int) -> list[State]:
        """Whether the answer of a read (or the revision of a conflict) is that of a session to which some of the
        changes have been made that had begun by then and have not had their turn.

        The state, with what the answer names: several where different changes may explain it, none where it cannot be.
        """
        read = self._steps[number]
        if not state.alive or not (read.reads or (read.told == "conflicted" and read.revision is not None)):
            return []
        under_way = self._under_way(read, done)
        key = (state, number, under_way)
        if key not in self._known:
            self._known[key] = [state._replace(names=names) for names in self._names(state, read, under_way)]
        return self._known[key]

    def _under_way(self, read: Step, done: int) -> _UnderWay:
        begun = [
            step
            for step in (self._steps[number] for number in self._changes)
            if not done >> step.number & 1 and step.started <= read.finished
        ]
        last = [step for step in begun if read.revision is None or step.draws in {None, read.revision}]
        seen = last[0].seen if read.seen is None and len(last) == 1 else read.seen
        if not last or any(step.call.expected_revision is not None for step in begun):
            return _UnderWay(tuple(step.number for step in begun if last), len(begun))
        if seen is None:  # whatever was there before it, the last one alone has drawn the revision
            return _UnderWay(tuple(step.number for step in last), 1)
        return _UnderWay(tuple(step.number for step in begun if _shows_in(step, seen)), len(begun))

    def _names(self, state: State, read: Step, under_way: _UnderWay) -> set[frozenset[tuple[str, int]]]:
        names = set()
        stack: list[tuple[State, frozenset[int]]] = [(state, frozenset())]
        tried = set(stack)
        while stack:
            at, used = stack.pop()
            for number in under_way.numbers:
                after = None if number in used else self._register.after(at, self._steps[number])
                if after is None:
                    continue
                shown = self._register.shows(after, read)
                if shown is not None:
                    names.add(shown.names)
                following = (after, used | {number})
                if following not in tried and len(following[1]) < under_way.longest:
                    tried.add(following)
                    stack.append(following)
        return names


def _shows_in(step: Step, seen: Attributes) -> bool:
    """Whether something of a change is to be seen. If not, others that are there without it have overwritten it."""
    return step.call.kind == "replace" or bool(step.call.remove) or not set(step.data).isdisjoint(seen)
