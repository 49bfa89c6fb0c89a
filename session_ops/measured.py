"""A repository that measures another: time of each operation, and errors by kind."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from session_ops.errors import (
    InvalidSessionError,
    OutcomeUnknownError,
    OverloadedError,
    RevisionConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from session_ops.metrics import Histogram, Metrics
    from session_ops.records import Changed, Ended, NewSession, Page, Session, Statistics
    from session_ops.stores.contract import Order, SessionRepository

Result = TypeVar("Result")

DURATION = "session_ops_store_operation_duration_seconds"
ERRORS = "session_ops_store_errors_total"

_ANSWERS = (InvalidSessionError, RevisionConflictError, SessionExistsError, SessionNotFoundError)
"""What a store that works may say: measured as an operation, not counted as an error of the store."""


def error_kind(error: BaseException) -> str:
    """The kind of an error as a metric label: few, stable values."""
    if isinstance(error, OverloadedError):
        return "overloaded"
    if isinstance(error, OutcomeUnknownError):
        return "outcome_unknown"
    if isinstance(error, StoreUnavailableError):
        return "unavailable"
    return "defect"


class MeasuredRepository:
    """Measures every operation of `inner` and changes nothing."""

    def __init__(self, inner: SessionRepository, store: str, metrics: Metrics) -> None:
        """`store` is the label: `redis` or `legacy`."""
        self._inner = inner
        self._store = store
        self._metrics = metrics
        self._get = metrics.histogram(DURATION, store, "get")
        self._series: dict[str, Histogram] = {}

    async def get(self, session_id: str) -> Session | None:
        """As `SessionRepository.get`; spelt out, since it is what a service does most."""
        started = perf_counter()
        try:
            session = await self._inner.get(session_id)
        except Exception as error:
            self._failed("get", error)
            raise
        self._get.observe(perf_counter() - started)
        return session

    async def _measure(self, operation: str, call: Awaitable[Result]) -> Result:
        started = perf_counter()
        try:
            result = await call
        except _ANSWERS:
            self._took(operation, perf_counter() - started)
            raise
        except Exception as error:
            self._failed(operation, error)
            raise
        self._took(operation, perf_counter() - started)
        return result

    def _took(self, operation: str, seconds: float) -> None:
        series = self._series.get(operation)
        if series is None:
            series = self._series[operation] = self._metrics.histogram(DURATION, self._store, operation)
        series.observe(seconds)

    def _failed(self, operation: str, error: Exception) -> None:
        self._metrics.count(ERRORS, self._store, operation, error_kind(error))

    async def create(self, new: NewSession) -> Session:
        """As `SessionRepository.create`."""
        return await self._measure("create", self._inner.create(new))

    async def get_many(self, session_ids: Sequence[str]) -> list[Session | None]:
        """As `SessionRepository.get_many`."""
        return await self._measure("get_many", self._inner.get_many(session_ids))

    async def update(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Session:
        """As `SessionRepository.update`."""
        call = self._inner.update(session_id, changes=changes, remove=remove, expected_revision=expected_revision)
        return await self._measure("update", call)

    async def change(
        self,
        session_id: str,
        *,
        changes: Mapping[str, Any],
        remove: Sequence[str] = (),
        expected_revision: str | None = None,
    ) -> Changed:
        """As `SessionRepository.change`."""
        call = self._inner.change(session_id, changes=changes, remove=remove, expected_revision=expected_revision)
        return await self._measure("change", call)

    async def replace(
        self, session_id: str, *, data: Mapping[str, Any], expected_revision: str | None = None
    ) -> Session:
        """As `SessionRepository.replace`."""
        call = self._inner.replace(session_id, data=data, expected_revision=expected_revision)
        return await self._measure("replace", call)

    async def touch(self, session_id: str) -> Session:
        """As `SessionRepository.touch`."""
        return await self._measure("touch", self._inner.touch(session_id))

    def touch_later(self, session: Session) -> bool:
        """As `SessionRepository.touch_later`; not measured, since nobody waits for it."""
        return self._inner.touch_later(session)

    async def delete(self, session_id: str, *, expected_revision: str | None = None) -> bool:
        """As `SessionRepository.delete`."""
        return await self._measure("delete", self._inner.delete(session_id, expected_revision=expected_revision))

    async def delete_user(self, user_id: str) -> int:
        """As `SessionRepository.delete_user`."""
        return await self._measure("delete_user", self._inner.delete_user(user_id))

    async def list_sessions(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        order: Order = "newest",
    ) -> Page:
        """As `SessionRepository.list_sessions`."""
        call = self._inner.list_sessions(user_id=user_id, agent_id=agent_id, cursor=cursor, limit=limit, order=order)
        return await self._measure("list_sessions", call)

    async def count_active(self) -> int:
        """As `SessionRepository.count_active`."""
        return await self._measure("count_active", self._inner.count_active())

    async def statistics(self) -> Statistics:
        """As `SessionRepository.statistics`."""
        return await self._measure("statistics", self._inner.statistics())

    async def clean(self, limit: int) -> list[Ended]:
        """As `SessionRepository.clean`."""
        return await self._measure("clean", self._inner.clean(limit))

    async def told(self, ended: Sequence[Ended]) -> None:
        """As `SessionRepository.told`."""
        await self._measure("told", self._inner.told(ended))
