"""For each guard, the change that takes it out of the implementation, and the test that has to notice.

The guards have the names of the model's (`tests/protocol/mutations.py`); those that only the implementation has follow
them. A text that is replaced occurs in its file exactly as often as `times` says, or `make mutation` fails.
"""

from __future__ import annotations

from typing import NamedTuple


class Removal(NamedTuple):
    """One guard taken away. `test` is FILE::TEST below this directory, or a path from the root."""

    guard: str
    file: str
    old: str
    new: str
    test: str
    times: int = 1
