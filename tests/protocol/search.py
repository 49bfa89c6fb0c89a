"""The search of one scenario: every reachable state, breadth first, so that a counterexample is a shortest one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from tests.protocol.circles import longest_alone
from tests.protocol.progress import FINISHED
from tests.protocol.properties import Told, check_acknowledged, check_step, check_world
from tests.protocol.records import Process, World
from tests.protocol.steps import step

if TYPE_CHECKING:
    from collections.abc import Sequence

BITS = 20
MASK = (1 << BITS) - 1
FAULTS = {"bump", "fence", "flush", "promote", "rewind"}

Item = TypeVar("Item")


class Numbered(Generic[Item]):
    """Gives equal items one number."""

    def __init__(self) -> None:
        self._numbers: dict[Item, int] = {}
        self.items: list[Item] = []

    def __call__(self, item: Item) -> int:
        """The item's number."""
        number = self._numbers.get(item)
        if number is None:
            number = self._numbers[item] = len(self.items)
            if number > MASK:
                raise OverflowError(f"more than {MASK} different items: raise BITS")
            self.items.append(item)
        return number


@dataclass(frozen=True)
class Result:
    """What a search has found. `error` None: the properties hold in all states."""

    name: str
    states: int
    worlds: int
    steps: int
    depth: int
    error: str | None
    trace: list[str] = field(default_factory=list)
    """The steps to the violation, where they were kept."""
    alone: int = 0
    """The most steps that an operation takes when it runs alone."""
    seconds: float = 0


class _Found(NamedTuple):
    """A violation: in which state, and by which step where one is to blame (pair of numbers, shift of its process)."""

    error: str
    state: int
    last: tuple[int, int] | None = None


class Search:
    """A state is one integer: the world's number, then the number of each process's state.

    Steps and all properties of one process in one world are computed once and remembered.
    """

    def __init__(self, name: str, world: World, kinds: Sequence[str], *, traces: bool = False) -> None:
        """`kinds`: one process each. `traces`: keep the way to every state, which costs memory."""
        self._name, self._kinds, self._traces = name, tuple(kinds), traces
        self._worlds: Numbered[World] = Numbered()
        self._processes: Numbered[Process] = Numbered()
        self._memo: dict[int, list[tuple[int, int, str]]] = {}
        self._faults = bool(FAULTS & set(kinds))
        # "None" is no promise before a create; nor after a bump, when a touch of the old generation that was
        # never acknowledged may still arrive and find the session just expired.
        self._revivable = "create" in kinds or (self._faults and "tick" in kinds)
        self._waits = self._faults or "finalize" in kinds or "cleanup" in kinds
        self._shifts = [BITS * (len(kinds) - 1 - number) for number in range(len(kinds))]
        self._top = BITS * len(kinds)
        self._start = self._worlds(world)
        for kind in kinds:
            self._start = self._start << BITS | self._processes(Process(kind))
        self._worlds_checked: set[int] = set()
        self._told_checked: set[tuple[int, Told]] = set()
        self._steps = 0
        self._depth = 0

    def run(self) -> Result:
        """Search to the end, or to the first violation."""
        came_from: dict[int, int] = {}
        seen = {self._start}
        level = [self._start]
        while level:
            following: list[int] = []
            for state in level:
                found = self._check(state)
                reached: list[int] = []
                if found is None:
                    reached, found = self._expand(state)
                if found:
                    return self._result(len(seen), found.error, self._trace(came_from, found))
                for after in reached:
                    if after not in seen:
                        seen.add(after)
                        if self._traces:
                            came_from[after] = state
                        following.append(after)
            level = following
            self._depth += bool(level)
        successors = {
            pair: [world << BITS | process for world, process, _ in steps] for pair, steps in self._memo.items()
        }
        alone, circle = longest_alone(successors, lambda pair: self._processes.items[pair & MASK].kind)
        return self._result(len(seen), circle, [], alone=alone)

    def _check(self, state: int) -> _Found | None:
        """The properties of the state itself."""
        number = state >> self._top
        error = None
        if number not in self._worlds_checked:
            error = check_world(self._worlds.items[number])
            self._worlds_checked.add(number)
        told = self._told([state >> shift & MASK for shift in self._shifts])
        if not error and (number, told) not in self._told_checked:
            error = check_acknowledged(self._worlds.items[number], told, faults=self._faults)
            self._told_checked.add((number, told))
        return _Found(error, state) if error else None

    def _expand(self, state: int) -> tuple[list[int], _Found | None]:
        """The states that one step of one process leads to."""
        number, low = state >> self._top, state & ((1 << self._top) - 1)
        reached: list[int] = []
        finished = True
        for shift in self._shifts:
            process = state >> shift & MASK
            pair = number << BITS | process
            known = self._memo.get(pair)
            if known is None:
                known, error = self._steps_of(number, process)
                self._memo[pair] = known
                if error:
                    return reached, _Found(error, state, (pair, shift))
            finished = finished and self._processes.items[process].at in FINISHED
            rest = low & ~(MASK << shift)
            reached += [world << self._top | rest | after << shift for world, after, _ in known]
        self._steps += len(reached)
        if not reached and not finished and not self._waits:
            return reached, _Found("nobody can go on", state)
        return reached, None

    def _steps_of(self, number: int, process_number: int) -> tuple[list[tuple[int, int, str]], str | None]:
        world, process = self._worlds.items[number], self._processes.items[process_number]
        steps: list[tuple[int, int, str]] = []
        error = None
        if process.at not in FINISHED:
            for following in step(world, process):
                error = error or check_step(world, process, following, faults=self._faults)
                steps.append((self._worlds(following.world), self._processes(following.process), following.label))
        return steps, error

    def _told(self, numbers: list[int]) -> Told:
        tags, gone, unknown = "", False, False
        for number in numbers:
            process = self._processes.items[number]
            if process.at == "ok":
                tags += process.tag
                gone |= process.kind == "delete"
            elif process.at == "none":
                gone |= not self._revivable
            unknown |= process.at == "unknown"
        return Told(tags, gone, unknown)

    def _trace(self, came_from: dict[int, int], found: _Found) -> list[str]:
        """The steps to a violation, in words."""
        if not self._traces:
            return []
        trace = []
        if found.last:
            pair, shift = found.last
            world, process = self._worlds.items[pair >> BITS], self._processes.items[pair & MASK]
            bad = next(one for one in step(world, process) if check_step(world, process, one, faults=self._faults))
            trace.append(f"{self._kinds[self._shifts.index(shift)]} {bad.label}")
        state = found.state
        while state in came_from:
            trace.append(self._described(came_from[state], state))
            state = came_from[state]
        return trace[::-1]

    def _described(self, before: int, after: int) -> str:
        numbers = [(before >> shift & MASK, after >> shift & MASK) for shift in self._shifts]
        for place, (kind, (then, now)) in enumerate(zip(self._kinds, numbers, strict=True)):
            if any(a != b for other, (a, b) in enumerate(numbers) if other != place):
                continue
            for world, process, label in self._memo[(before >> self._top) << BITS | then]:
                if (world, process) == (after >> self._top, now):
                    return f"{kind} {label}"
        raise AssertionError("a state was reached by no step")

    def _result(self, states: int, error: str | None, trace: list[str], alone: int = 0) -> Result:
        return Result(self._name, states, len(self._worlds.items), self._steps, self._depth, error, trace, alone)
