"""How long an operation takes that runs alone, and whether it can go round for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.steps import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def longest_alone(successors: Mapping[int, Sequence[int]], kind_of: Callable[[int], str]) -> tuple[int, str | None]:
    """Every operation, alone from any state, whatever its flag does: how many steps at most, or who goes in circles.

    `successors`: for every world with a process in it, where one step of that process leads.
    """
    longest: dict[int, int] = {}  # 0: on the way
    for pair in successors:
        stack = [(pair, False)]
        while stack:
            at, ready = stack.pop()
            if longest.get(at, 0) and not ready:
                continue
            if kind_of(at) in ENVIRONMENT:
                longest[at] = 1
                continue
            after = successors.get(at, ())
            if ready:
                longest[at] = 1 + max((longest[one] for one in after), default=0)
                continue
            again = at in longest
            longest[at] = 0
            if again or any(longest.get(one) == 0 for one in after):
                return 0, f"{kind_of(at)} can go round for ever, alone"
            stack.append((at, True))
            stack.extend((one, False) for one in after if one not in longest)
    return max(longest.values(), default=1) - 1, None
