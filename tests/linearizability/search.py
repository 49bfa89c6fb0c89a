"""The search for an order of a session's calls that explains every answer.

Wing and Gong's search ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of what was tried
("Testing for linearizability", 2017). What makes it fast here are revisions: each is drawn once, so a session never
comes back to one, and a change may only follow when everybody who saw the revision before it has had his turn.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tests.linearizability.foresight import Foresight
from tests.linearizability.register import NEVER, Register, Rules, State, Step
from tests.linearizability.sightings import Sightings, mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LIMIT = 2_000_000


class UndecidedError(Exception):
    """The search has been given up: neither an order was found, nor are all excluded."""


class Verdict(NamedTuple):
    """What a search has found."""

    explained: bool
    answers: int
    """So many answers, in the order in which they came, were explained at most before the search was stuck."""


class _Node(NamedTuple):
    done: int
    """A bit for each step that has had its turn."""
    state: State
    answers: int
    """So many of the answers have had their turn, in the order in which they came."""


class Search:
    """The search for one history, of steps numbered by their beginning.

    Raises `UndecidedError` after `limit` different nodes.
    """

    def __init__(self, steps: Sequence[Step], rules: Rules, limit: int = LIMIT) -> None:
        self._steps = steps
        self._register = Register(self._steps, rules)
        self._rules, self._limit = rules, limit
        numbered = list(enumerate(self._steps))
        self._answers = sorted(
            (number for number, step in numbered if step.told is not None),
            key=lambda number: self._steps[number].finished,
        )
        self._answered = mask(self._answers)
        drawn = [step.draws for step in steps if step.draws is not None]
        self._drawn_twice = len(set(drawn)) < len(drawn)
        may_explain = _explaining(self._steps)
        self._optional = [number for number, step in numbered if step.told is None and may_explain(step)]
        self._sightings = Sightings(steps, rules)
        self._foresight = Foresight(self._steps, self._register)

    def run(self) -> Verdict:
        """Search until an order is found or all are excluded."""
        if self._drawn_twice:
            return Verdict(explained=False, answers=0)
        furthest = 0
        for node in self._nodes():
            if node.answers == len(self._answers):
                return Verdict(explained=True, answers=node.answers)
            furthest = max(furthest, node.answers)
        return Verdict(explained=False, answers=furthest)

    def ends(self, nodes: int) -> set[State]:
        """What the session can be after all of it, as far as so many nodes tell."""
        return {node.state for node in islice(self._nodes(), nodes) if node.answers == len(self._answers)}

    def _nodes(self) -> Iterator[_Node]:
        stack = [_Node(0, NEVER, 0)]
        tried: set[tuple[int, State]] = set()
        while stack:
            node = self._settled(stack.pop())
            if (node.done, node.state) in tried:
                continue
            tried.add((node.done, node.state))
            if len(tried) > self._limit:
                raise UndecidedError(f"gave up after {self._limit} nodes, {len(self._steps)} calls")
            yield node
            stack.extend(reversed(list(self._following(node))))

    def _settled(self, node: _Node) -> _Node:
        """Give all their turn who would see the session as it is and leave it so. None of them loses by going first."""
        done, state, answers = node
        while True:
            while answers < len(self._answers) and done >> self._answers[answers] & 1:
                answers += 1
            latest = self._latest(answers)
            seeing = [number for number in self._window(done, latest) if self._sees(state, number, done)]
            if not seeing:
                return _Node(done, state, answers)
            done |= mask(seeing)

    def _sees(self, state: State, number: int, done: int) -> bool:
        step = self._steps[number]
        if step.reads or step.told in {"absent", "exists", "conflicted"} or state.phase == "ended":
            after = self._register.after(state, step)
            if after is not None:
                return after == state
        return self._rules.dirty_reads and state in self._foresight.shows(state, number, done)

    def _following(self, node: _Node) -> Iterator[_Node]:
        latest = self._latest(node.answers)
        by_answer = sorted(self._window(node.done, latest), key=lambda number: self._steps[number].finished)
        for number in [*by_answer, *self._waiting(node.done, latest)]:
            after = self._register.after(node.state, self._steps[number])
            states = [] if after is None else [after]
            if self._rules.dirty_reads:
                states += self._foresight.shows(node.state, number, node.done)
            done = node.done | 1 << number
            yield from (
                _Node(done, one, node.answers) for one in states if self._sightings.allow(node.state, one, done)
            )
        expired = self._register.expired(node.state, latest)
        if expired is not None and self._sightings.allow(node.state, expired, node.done):
            yield _Node(node.done, expired, node.answers)

    def _latest(self, answers: int) -> float:
        """The next call that takes effect does so before this time: then the next answer is there."""
        return self._steps[self._answers[answers]].finished if answers < len(self._answers) else math.inf

    def _window(self, done: int, latest: float) -> Iterator[int]:
        """The answered calls that may take effect now."""
        left = self._answered & ~done
        number = (left & -left).bit_length() - 1
        while 0 <= number < len(self._steps) and self._steps[number].started <= latest:
            if left >> number & 1:
                yield number
            number += 1

    def _waiting(self, done: int, latest: float) -> Iterator[int]:
        """The calls without an answer that may take effect now."""
        for number in self._optional:
            if self._steps[number].started > latest:
                return
            if not done >> number & 1:
                yield number


def _explaining(steps: Sequence[Step]) -> Callable[[Step], bool]:
    """Whether a call without an answer may be needed to explain those of others.

    An update that only sets attributes is not, if none of its values was ever seen, and every revision that was seen is
    another change's or was seen with other values: whatever order there is with it, there is the same without it.
    """
    drawn = {step.draws for step in steps if step.draws is not None}
    read = {step.revision for step in steps if step.reads and step.seen is not None}
    named = {step.call.expected_revision for step in steps} | {step.observes for step in steps}
    any_may = bool(named - drawn - read - {None})
    any_may = any_may or any(step.told == "conflicted" and step.revision is None for step in steps)
    seen = {attribute for step in steps for attribute in step.seen or ()}

    def may(step: Step) -> bool:
        only_sets = step.call.kind == "update" and step.data and not step.call.remove
        return any_may or not only_sets or not seen.isdisjoint(step.data)

    return may
