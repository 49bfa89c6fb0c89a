"""What a validation has found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from session_ops.migration.comparison import Mismatch

Way = Literal["full", "sample", "digest"]


class Validated(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `rows` and `records`: looked at. `lag`: sessions on which the stores agreed once they were looked
    at again; `busy`: those that had changed in both stores whenever they were. `digests`: of all rows and of all
    records, where that was asked for.
    """

    way: Way
    state: str
    reason: str | None
    generation: int
    mode: str
    redis: str
    rows: int
    records: int
    in_redis: int
    in_legacy: int
    lag: int
    busy: int
    kinds: dict[str, int]
    mismatches: list[Mismatch]
    digests: tuple[str, str] | None
    seconds: float
    resumed: bool
    repaired: list[str] = []

    @property
    def agree(self) -> bool:
        """Whether nothing was found that still stands."""
        return len(self.repaired) == len(self.mismatches)
