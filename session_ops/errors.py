"""Every error that leaves this package, in one place.

Errors of a store say one of two things, and a caller must be able to tell them apart:
*nothing happened* (retry at will) or *the outcome is unknown* (the change may still take effect, once).
"""

from __future__ import annotations


class SessionOpsError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(SessionOpsError):
    """A setting is wrong, missing or unknown; the message is one line that names it."""


class InvalidSessionError(SessionOpsError):
    """An id, a user, an agent or an attribute is outside its limits. Nothing was written."""


class SessionTooLargeError(InvalidSessionError):
    """The session's data would exceed the size limit. Nothing was written."""

    mode: str | None = None
    """The mode that Redis answered with it; None where no store was asked."""


class SessionNotFoundError(SessionOpsError):
    """No live session has this id: it never existed, has ended, or has expired."""


class SessionExistsError(SessionOpsError):
    """A session, or the tombstone of one, already has this id. Nothing was written."""


class RevisionConflictError(SessionOpsError):
    """The session's revision is not the one the caller expected. Nothing was written."""

    mode: str | None = None
    """The mode that Redis answered with it; None where the legacy store did."""

    def __init__(self, session_id: str, revision: str) -> None:
        """`revision` is the one the session has now."""
        super().__init__("the session was changed by someone else")
        self.session_id = session_id
        self.revision = revision


class StoreUnavailableError(SessionOpsError):
    """A store cannot serve; nothing happened. `store` is `redis` or `legacy`, `reason` one short word or phrase."""

    def __init__(self, store: str, reason: str) -> None:
        """Keep `reason` short and stable: it is a metric label and is shown by /readyz."""
        super().__init__(f"{store}: {reason}")
        self.store = store
        self.reason = reason


class OverloadedError(StoreUnavailableError):
    """The queue to a store is full; nothing happened."""


class OutcomeUnknownError(StoreUnavailableError):
    """A change was sent and not answered: it may still take effect, at most once."""


class CorruptSessionError(SessionOpsError):
    """A store holds something under a session's name that is no session. Nothing was written."""


class StoreNotEmptyError(SessionOpsError):
    """A generation was to be opened in a Redis that holds other data. Nothing was written."""


class ServiceRefusedError(SessionOpsError):
    """The HTTP service refused a call for good: the token is unknown or lacks the scope, or the service is at fault."""


class PreconditionError(SessionOpsError):
    """What was asked for is not possible as things stand; nothing was changed. `reasons` say what to do, one each."""

    def __init__(self, *reasons: str) -> None:
        """Each reason names what is in the way and the next step."""
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class HeldError(SessionOpsError):
    """Somebody else is at the same work. Nothing was changed."""


class StageConflictError(SessionOpsError):
    """The migration is at another stage than this step goes on from. Nothing was changed."""


class MismatchError(SessionOpsError):
    """The stores do not agree. What was to follow was not done."""


class UnfinishedError(SessionOpsError):
    """Work in steps was stopped between two of them: what is done stays done, and the same command goes on with it."""
