"""What Redis answers where it has no active, unexpired record that a reader could be given at once."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from session_ops.records import Record, Session


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What is under an id, the mode that was answered with it, and whether it has expired by Redis' clock.

    Also an active record whose answer counts by its mode alone, which is so in mode final.
    """

    mode: str
    record: Record | None = None
    expired: bool = False

    @property
    def active(self) -> bool:
        """Whether it is an active record."""
        return self.record is not None and self.record.state == "active"

    @property
    def session(self) -> Session | None:
        """The record's session."""
        return None if self.record is None else self.record.session


class Put(enum.Enum):
    """What PUT answers."""

    WRITTEN = "written"
    NEWER = "newer"
    EXPIRED = "expired"
    """The row has expired by Redis' clock, and Redis has nothing unexpired under its id."""
    HELD = "held"
    """The row has expired by Redis' clock, but what Redis has under its id has not."""
    REFUSED = "refused"
    """Redis could not be asked, or has no room."""
