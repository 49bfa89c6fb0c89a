"""The guards of the protocol by name. A mutation takes some away; otherwise all of them stand."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_removed: set[str] = set()


def guard(name: str) -> bool:
    """Whether this guard stands."""
    return name not in _removed


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Take guards away for as long as the context lasts."""
    _removed.update(names)
    try:
        yield
    finally:
        _removed.difference_update(names)
