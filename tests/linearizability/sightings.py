"""What the answers that have not had their turn still need to see: by it most wrong turns are known at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.linearizability.register import Rules, State, Step

Sighting = str | tuple[str, bytes]
"""A revision, or an attribute with its value; of writers also an attribute's name, with any value or none."""


def mask(numbers: Iterable[int]) -> int:
    """A bit for each number."""
    bits = 0
    for number in numbers:
        bits |= 1 << number
    return bits


class Sightings:
    """Who has seen which revision and which attribute, who has written it, and who has found the session alive."""

    def __init__(self, steps: Sequence[Step], rules: Rules) -> None:
        self._finders = mask(step.number for step in steps if _finds(step, rules))
        self._lookers = mask(step.number for step in steps if step.seen is not None)
        self._replacers = mask(step.number for step in steps if step.call.kind in {"create", "replace"})
        self._seers: dict[Sighting, int] = {}
        self._writers: dict[Sighting, int] = {}
        for step in steps:
            seen: set[Sighting] = {*(step.seen or ())}
            if step.observes is not None and _finds(step, rules):
                seen.add(step.observes)
            written: set[Sighting] = {*step.data, *(name for name, _ in step.data), *step.call.remove}
            for what in seen:
                self._seers[what] = self._seers.get(what, 0) | 1 << step.number
            for what in written:
                self._writers[what] = self._writers.get(what, 0) | 1 << step.number

    def allow(self, before: State, after: State, done: int) -> bool:
        """Whether the session may become `after`, if the steps in `done` have had their turn, that which makes it so
        among them, and all others are still to come.
        """
        if after.phase == "ended":
            return not self._finders & ~done
        if (
            isinstance(before.revision, str)
            and before.revision != after.revision
            and self._wanted(before.revision, done)
        ):
            return False
        if before.data == after.data:
            return True
        gone = set(before.data) - set(after.data)
        if any(self._wanted(pair, done) and not self._writers.get(pair, 0) & ~done for pair in gone):
            return False
        return not any(self._stuck(pair, done) for pair in after.data)

    def _wanted(self, what: Sighting, done: int) -> int:
        """Who is still to come and has seen it."""
        return self._seers.get(what, 0) & ~done

    def _stuck(self, pair: tuple[str, bytes], done: int) -> bool:
        """Whether somebody is still to come who has not seen this attribute, and nobody who could take it away."""
        blind = self._lookers & ~done & ~self._seers.get(pair, 0)
        return bool(blind) and not (self._writers.get(pair[0], 0) | self._replacers) & ~done


def _finds(step: Step, rules: Rules) -> bool:
    if step.told == "ended":
        return not rules.repeated_ends
    return step.told in {"answered", "conflicted"}
