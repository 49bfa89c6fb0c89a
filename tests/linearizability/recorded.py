"""A repository whose calls are recorded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from session_ops.errors import (
    CorruptSessionError,
    InvalidSessionError,
    OutcomeUnknownError,
    RevisionConflictError,
    ServiceRefusedError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from tests.linearizability.history import Call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from session_ops.records import Changed, NewSession, Session
    from tests.linearizability.history import History, Operation


class Repository(Protocol):
    """The calls of a `SessionRepository` that concern one session."""

    async def create(self, new: NewSession) -> Session: ...
    async def get(self, session_id: str) -> Session | None: ...
    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session: ...
    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed: ...
    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session: ...
    async def touch(self, session_id: str) -> Session: ...
    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool: ...


@contextmanager
def noted_errors(operation: Operation) -> Iterator[None]:
    """Note what an error says of the operation, and raise it. What is not known to be harmless is unknown."""
    try:
        yield
    except OutcomeUnknownError as error:
        operation.unknown(str(error))
        raise
    except (StoreUnavailableError, InvalidSessionError, CorruptSessionError, ServiceRefusedError) as error:
        operation.refused(str(error))
        raise
    except SessionNotFoundError:
        operation.absent()
        raise
    except SessionExistsError:
        operation.exists()
        raise
    except RevisionConflictError as error:
        operation.conflicted(revision=error.revision or None)
        raise
    except BaseException as error:
        if operation.outcome is None:
            operation.unknown(repr(error))
        raise


class Recorded:
    """Records every call to a repository, and passes its answers and errors on.

    Each call must be sent once: one that is repeated behind this may take effect twice, and the history would not
    know. `ttl`, in seconds, where sessions may expire while they are watched.
    """

    def __init__(self, repository: Repository, history: History, *, by: str = "", ttl: float | None = None) -> None:
        self._repository, self._history, self._by, self._ttl = repository, history, by, ttl

    async def create(self, new: NewSession) -> Session:
        """As the repository's."""
        ttl = None if self._ttl is None else new.ttl or self._ttl
        operation = self._history.begin(Call.create(new.data, ttl=ttl), session_id=new.id, by=self._by)
        with noted_errors(operation):
            session = await self._repository.create(new)
        operation.session_id = session.id
        operation.answered(data=session.data, revision=session.revision)
        return session

    async def get(self, session_id: str) -> Session | None:
        """As the repository's."""
        operation = self._history.begin(Call.get(), session_id=session_id, by=self._by)
        with noted_errors(operation):
            session = await self._repository.get(session_id)
        if session is None:
            operation.absent()
        else:
            operation.answered(data=session.data, revision=session.revision)
        return session

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        """As the repository's."""
        call = Call.update(changes, remove=remove, expected_revision=expected_revision)
        operation = self._history.begin(call, session_id=session_id, by=self._by)
        with noted_errors(operation):
            session = await self._repository.update(
                session_id, changes=changes, remove=remove, expected_revision=expected_revision
            )
        operation.answered(data=session.data, revision=session.revision)
        return session

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        """As the repository's."""
        call = Call.update(changes, remove=remove, expected_revision=expected_revision)
        operation = self._history.begin(call, session_id=session_id, by=self._by)
        with noted_errors(operation):
            changed = await self._repository.change(
                session_id, changes=changes, remove=remove, expected_revision=expected_revision
            )
        operation.answered(revision=changed.revision)
        return changed

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        """As the repository's."""
        call = Call.replace(data, expected_revision=expected_revision)
        operation = self._history.begin(call, session_id=session_id, by=self._by)
        with noted_errors(operation):
            session = await self._repository.replace(session_id, data=data, expected_revision=expected_revision)
        operation.answered(data=session.data, revision=session.revision)
        return session

    async def touch(self, session_id: str) -> Session:
        """As the repository's."""
        operation = self._history.begin(Call.touch(), session_id=session_id, by=self._by)
        with noted_errors(operation):
            session = await self._repository.touch(session_id)
        operation.answered(data=session.data, revision=session.revision)
        return session

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """As the repository's."""
        call = Call.delete(expected_revision=expected_revision)
        operation = self._history.begin(call, session_id=session_id, by=self._by)
        with noted_errors(operation):
            ended = await self._repository.delete(session_id, expected_revision=expected_revision)
        if ended:
            operation.ended()
        else:
            operation.absent()
        return ended
