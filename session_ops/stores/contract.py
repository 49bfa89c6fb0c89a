"""What every repository of sessions promises, edge by edge. One contract suite runs over each implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from session_ops.records import Changed, Ended, NewSession, Page, Session, Statistics

Order = Literal["oldest", "newest"]


class SessionRepository(Protocol):
    """Stores sessions. Every method may raise `StoreUnavailableError` (nothing happened), and every method that
    changes something `OutcomeUnknownError` (it may still take effect, at most once).

    A session whose `expires_at` is not later than the store's own clock is dead: it is reported absent, and no
    write, touch or late copy revives it. An id is never used twice, not even after its session has ended.
    """

    async def create(self, new: NewSession) -> Session:
        """Create a session; an id is drawn where `new.id` is None.

        Raises `SessionExistsError` when the id is in use or its tombstone is still there, `InvalidSessionError` and
        `SessionTooLargeError` before anything is sent. One round trip.
        """
        ...

    async def get(self, session_id: str) -> Session | None:
        """Return the live session, or None when it is unknown, ended or expired. An id that no session can have
        (malformed) is unknown, not an error. Never extends the session's life. One round trip.

        Raises `CorruptSessionError` for what is no session; values that are no JSON may show only in `Session.data`.
        """
        ...

    async def get_many(self, session_ids: Sequence[str]) -> list[Session | None]:
        """Return the sessions in the order of the ids, None where `get` would return None. One round trip."""
        ...

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        """Set the attributes in `changes`, remove those in `remove`, leave all others as they are *now* in the store.

        Two updates of different attributes never overwrite each other. Removing an absent attribute is no error;
        one that is both set and removed ends removed. More than 4,096 to remove raise `InvalidSessionError`.
        The session's life slides on by the TTL. Raises `SessionNotFoundError`, `RevisionConflictError` (when
        `expected_revision` is given and differs), `SessionTooLargeError` (of the whole session after the change).
        One round trip.
        """
        ...

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        """Do what `update` does and answer without the attributes, which spares the store a read of the session.

        For callers that need no more than the new revision. Raises and costs as `update`.
        """
        ...

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        """Set the session's attributes to exactly `data`. Otherwise as `update`."""
        ...

    async def touch(self, session_id: str) -> Session:
        """Slide the session's life on by the TTL, rounded up to steps of ttl/20; `expires_at` never decreases.

        The revision stays. Raises `SessionNotFoundError`. One round trip.
        """
        ...

    def touch_later(self, session: Session) -> bool:
        """Send a touch behind the answer to a reader, where one is due; whether one was sent. Never raises or waits.

        One at a time per session; one that fails is due again at the next read.
        """
        ...

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """End the session; True when this call ended it, False when it was absent or already ended.

        Leaves a tombstone until the session would have expired. Raises `RevisionConflictError`. One round trip.
        """
        ...

    async def delete_user(self, user_id: str) -> int:
        """End every session that `user_id` has when the call begins; the number that this call ended.

        Sessions are ended one by one: after an error some may be ended, and a repeat ends the rest.
        """
        ...

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        order: Order = "newest",
    ) -> Page:
        """List live sessions of a user, of an agent, of both, or all, by (`created_at`, id).

        A session that lives throughout the whole walk is seen exactly once; one that is created or ends meanwhile may
        be seen or not. `limit` is 1 to 1000. A page may hold fewer than `limit` sessions and still have a cursor.
        Raises `InvalidSessionError` for a cursor this repository did not make. One round trip per page, as a rule.
        """
        ...

    async def count_active(self) -> int:
        """The number of sessions whose expiry lies ahead. One round trip (one per partition).

        Redis' count is exact while cleanup runs (docs/architecture.md).
        """
        ...

    async def statistics(self) -> Statistics:
        """Counters since the store was opened. One round trip (one per partition)."""
        ...

    async def clean(self, limit: int) -> list[Ended]:
        """Take up to `limit` ended sessions that nobody has been told of; [] when dry.

        Those that were never given out come first, oldest first; then those given out and not confirmed, so that a
        crash in between loses no notice, and a receiver that refuses some holds up no others. A caller that loops
        until dry stops when a call has given it nothing that it could confirm.
        """
        ...

    async def told(self, ended: Sequence[Ended]) -> None:
        """Confirm that the agent manager has heard of these ends; what remains of the sessions may go."""
        ...


class Leading(SessionRepository, Protocol):
    """A repository that knows who in the fleet does what is to be done once."""

    async def lead(self, task: str, holder: str, seconds: float) -> bool:
        """True while `holder` leads `task` for the next `seconds`. One round trip."""
        ...
