"""What a caller can do to one session, said once for either owner: in Redis by a function, in SQL on the row seen.

An operation knows nothing of moves, leases and mirrors; `ownership` runs it where the session is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from session_ops.errors import RevisionConflictError, SessionTooLargeError
from session_ops.limits import encode_attributes, encode_names
from session_ops.stores.legacy_writes import draw_revision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from session_ops.limits import Limits
    from session_ops.records import Record, Row, Session
    from session_ops.stores.legacy_steps import LegacySteps

_encode = msgspec.json.Encoder().encode


class Changed(NamedTuple):
    """What Redis has made of a session, and the mode that it answered. `written`: false where nothing had to change."""

    record: Record
    mode: str
    written: bool = True


class RedisChanges(Protocol):
    """The changes of one generation of Redis; each answers None where no active record allows it."""

    async def merge(
        self, session_id: str, changes: Mapping[str, Any], remove: Sequence[str], expected_revision: str | None
    ) -> Changed | None:
        """Set and remove attributes."""
        ...

    async def rewrite(self, session_id: str, data: Mapping[str, Any], expected_revision: str | None) -> Changed | None:
        """Set the data to exactly this."""
        ...

    async def slide(self, session_id: str) -> Changed | None:
        """Move the expiry where it is due."""
        ...

    async def kill(self, session_id: str, expected_revision: str | None) -> Changed | None:
        """KILL. `written` is false for a tombstone that was there already."""
        ...


class Operation(Protocol):
    """One change of one session."""

    id: str

    async def in_redis(self, redis: RedisChanges) -> Changed | None:
        """Make the change where Redis owns the session; None: refused. Raises what the contract says of conflicts."""
        ...

    async def in_legacy(self, legacy: LegacySteps, row: Row, g: int) -> Session | None:
        """Make the change on the row that was seen; the session after it (an ended one as it was). None: refused."""
        ...


class Update:
    """Set and remove single attributes."""

    def __init__(
        self,
        session_id: str,
        changes: Mapping[str, Any],
        remove: Sequence[str],
        expected_revision: str | None,
        limits: Limits,
    ) -> None:
        """Raises `InvalidSessionError` and `SessionTooLargeError` before any store is asked."""
        self.id = session_id
        self._remove = [name.decode() for name in encode_names(remove)]
        self._changes = {name: value for name, value in changes.items() if name not in self._remove}
        self._expected = expected_revision
        self._limits = limits
        encode_attributes(self._changes, limits)

    async def in_redis(self, redis: RedisChanges) -> Changed | None:
        """See `Operation`."""
        return await redis.merge(self.id, self._changes, self._remove, self._expected)

    async def in_legacy(self, legacy: LegacySteps, row: Row, g: int) -> Session | None:
        """See `Operation`."""
        _expect(row, self._expected)
        data = {**row.session.data, **self._changes}
        for name in self._remove:
            data.pop(name, None)
        if not _fits(data, self._limits) and _grows(row.session.data, data):
            raise SessionTooLargeError("data: the session would exceed its limits")
        written = await legacy.write(row, g, data=_encode(data).decode(), revision=draw_revision())
        return written.session if written else None


class Replace:
    """Set the data to exactly what is given."""

    def __init__(self, session_id: str, data: Mapping[str, Any], expected_revision: str | None, limits: Limits) -> None:
        """Raises `InvalidSessionError` and `SessionTooLargeError` before any store is asked."""
        self.id = session_id
        self._data = data
        self._expected = expected_revision
        encode_attributes(data, limits)

    async def in_redis(self, redis: RedisChanges) -> Changed | None:
        """See `Operation`."""
        return await redis.rewrite(self.id, self._data, self._expected)

    async def in_legacy(self, legacy: LegacySteps, row: Row, g: int) -> Session | None:
        """See `Operation`."""
        _expect(row, self._expected)
        written = await legacy.write(row, g, data=_encode(self._data).decode(), revision=draw_revision())
        return written.session if written else None


class Touch:
    """Slide the life on where that is due: a write of unchanged data, else nothing."""

    def __init__(self, session_id: str) -> None:
        self.id = session_id

    async def in_redis(self, redis: RedisChanges) -> Changed | None:
        """See `Operation`."""
        return await redis.slide(self.id)

    async def in_legacy(self, legacy: LegacySteps, row: Row, g: int) -> Session | None:
        """See `Operation`."""
        if not legacy.touch_due(row):
            return row.session
        written = await legacy.touch(row, g)
        return written.session if written else None


class Delete:
    """End the session. `ended` says whether this operation did it."""

    def __init__(self, session_id: str, expected_revision: str | None) -> None:
        self.id = session_id
        self.ended = False
        self._expected = expected_revision

    async def in_redis(self, redis: RedisChanges) -> Changed | None:
        """See `Operation`."""
        killed = await redis.kill(self.id, self._expected)
        # Whoever sent the KILL that made the tombstone has ended it, also where the mirror is still on its way
        self.ended = self.ended or (killed is not None and killed.written)
        return killed

    async def in_legacy(self, legacy: LegacySteps, row: Row, g: int) -> Session | None:
        """See `Operation`."""
        _expect(row, self._expected)
        if not await legacy.end(row, g):
            return None
        self.ended = True
        return row.session


def _expect(row: Row, revision: str | None) -> None:
    if revision is not None and row.session.revision != revision:
        raise RevisionConflictError(row.session.id, row.session.revision)


def _size(data: Mapping[str, Any]) -> int:
    return sum(len(name.encode()) + len(_encode(value)) for name, value in data.items())


def _fits(data: Mapping[str, Any], limits: Limits) -> bool:
    return len(data) <= limits.attributes and _size(data) <= limits.size


def _grows(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """What is already larger, under an earlier limit, may shrink."""
    return len(after) > len(before) or _size(after) > _size(before)
