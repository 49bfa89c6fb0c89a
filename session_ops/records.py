"""The records that stores, service and API exchange. Times are integer milliseconds since the epoch, UTC."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal, cast

import msgspec

from session_ops.deferred import Deferred
from session_ops.errors import CorruptSessionError

Attributes = dict[str, Any]
"""A session's data: attribute name to any JSON value."""


class _Session(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `Session` as they lie in memory: its data may be as Redis keeps it."""

    id: str
    user_id: str
    agent_id: str | None
    data: Attributes
    created_at: int
    updated_at: int
    expires_at: int
    revision: str
    version: int
    ttl: int | None = None


_read: Any = cast("Any", _Session.data).__get__
_keep: Any = cast("Any", _Session.data).__set__


class Session(_Session, frozen=True, kw_only=True):
    """A live session as a caller sees it.

    `revision` is 16 lower-case hex digits, drawn anew by every change of what the caller can see (never by a touch
    or a move). `version` is the ownership protocol's counter, raised by every change and every move; callers must
    not use it to detect changes. `ttl` is the session's own sliding TTL in seconds; None: the repository's default.
    """

    @property  # type: ignore[misc]
    def data(self) -> Attributes:
        """The attributes, decoded when they are first asked for.

        Raises `CorruptSessionError` where Redis holds values that are no JSON: nothing of ours writes such.
        """
        data: Attributes | Deferred = _read(self)
        if type(data) is not dict:
            data = cast("Deferred", data).decode()
            _keep(self, data)
        return data

    def shown(self) -> Attributes | msgspec.Raw:
        """The data for a JSON encoder: checked and not decoded where nobody has asked for it. Raises as `data`."""
        data: Attributes | Deferred = _read(self)
        return data.text() if isinstance(data, Deferred) else data

    # msgspec looks at what lies in memory, so that comparing, showing and copying decode first

    def __eq__(self, other: object) -> bool:
        """Whether it is a session with the same fields."""
        if not isinstance(other, Session):
            return NotImplemented
        return self.data == other.data and super().__eq__(other)

    __hash__ = None  # type: ignore[assignment] # data is not hashable

    def __repr__(self) -> str:
        """All fields; data that cannot be decoded is no reason to fail."""
        with suppress(CorruptSessionError):
            self.data  # noqa: B018
        return super().__repr__()

    def __copy__(self) -> Session:
        """A copy that shares the data."""
        self.data  # noqa: B018
        return cast("Session", super().__copy__())  # type: ignore[misc]

    def __reduce__(self) -> Any:
        """For pickle and deep copies."""
        self.data  # noqa: B018
        return super().__reduce__()


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A session's bookkeeping after a change, without its attributes: what `SessionRepository.change` answers."""

    id: str
    user_id: str
    agent_id: str | None
    created_at: int
    updated_at: int
    expires_at: int
    revision: str
    version: int
    ttl: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What one store has under a session's id, as the ownership protocol copies it to the other.

    `moved`: given back to the legacy store; `deleted`: a tombstone. Not `filled`: a marker for a session that never
    arrived in Redis, so that neither its data nor its revision say anything.
    """

    state: Literal["active", "moved", "deleted"]
    session: Session
    filled: bool = True


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A session's row in the legacy store. `ended`: expired by that store's clock, or given out as ended; `now`: that
    clock (ms) at the look, 0 where a step answered the row.
    """

    session: Session
    owner: Literal["legacy", "redis"]
    generation: int
    deleted: bool
    ended: bool
    now: int = 0


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The control row: which life of Redis is in force (protocol, section 2), and the canaries of the stage row."""

    generation: int
    prefix: str | None
    pin: str | None
    mode: Literal["mirror", "hold", "final"]
    closing: str | None
    redis: Literal["off", "on", "away"]
    addresses: str
    canaries: frozenset[str]


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller gives to create a session. `ttl` is in seconds; None takes the repository's default."""

    user_id: str
    agent_id: str | None = None
    data: Attributes = {}
    ttl: int | None = None
    id: str | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list. `cursor` is opaque; None means that the list ends here."""

    sessions: list[Session]
    cursor: str | None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A session that has ended, as the agent manager is told: keyed by (`id`, `ended_at`).

    `cause` is `deleted` or `expired`; `ended_at` is the deletion's or the expiry's time in milliseconds.
    """

    id: str
    user_id: str
    agent_id: str | None
    cause: str
    ended_at: int


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of a store since it was opened, and what it holds now."""

    active: int
    created: int
    expired: int
    deleted: int
    moved: int


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """What /readyz says about one store.

    `reason` is None while the store is up, else a short stable phrase. `details` of Redis: `prefix`, `mode`, `keys`,
    `library`, `role`, `server`, `version`, `latency_ms`, `used_memory`, `maxmemory`; what was not learnt is None.
    """

    state: Literal["up", "down"]
    reason: str | None
    details: dict[str, Any]
