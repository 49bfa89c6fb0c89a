"""What clients asked of sessions, when, and what they were told: the evidence that a check of linearizability needs."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Kind = Literal["create", "get", "update", "replace", "delete", "touch"]
Outcome = Literal["answered", "ended", "absent", "exists", "conflicted", "refused", "unknown"]

_POSSIBLE: dict[Outcome, tuple[Kind, ...]] = {
    "answered": ("create", "get", "update", "replace", "touch"),
    "ended": ("delete",),
    "absent": ("get", "update", "replace", "delete", "touch"),
    "exists": ("create",),
    "conflicted": ("update", "replace", "delete"),
    "refused": ("create", "get", "update", "replace", "delete", "touch"),
    "unknown": ("create", "get", "update", "replace", "delete", "touch"),
}


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of one session. Made by the functions named after the operations."""

    kind: Kind
    data: dict[str, Any] = {}
    """The attributes of a create and a replace; those that an update sets."""
    remove: tuple[str, ...] = ()
    expected_revision: str | None = None
    ttl: float | None = None

    @classmethod
    def create(cls, data: Mapping[str, Any], *, ttl: float | None = None) -> Self:
        """Create. `ttl` in seconds, where the session may expire while it is watched; None: it does not."""
        return cls(kind="create", data=dict(data), ttl=ttl)

    @classmethod
    def get(cls) -> Self:
        """Read."""
        return cls(kind="get")

    @classmethod
    def update(
        cls, changes: Mapping[str, Any], *, remove: Sequence[str] = (), expected_revision: str | None = None
    ) -> Self:
        """Set some attributes and remove some, leaving the others. What is both set and removed ends removed."""
        return cls(kind="update", data=dict(changes), remove=tuple(remove), expected_revision=expected_revision)

    @classmethod
    def replace(cls, data: Mapping[str, Any], *, expected_revision: str | None = None) -> Self:
        """Set the attributes to exactly `data`."""
        return cls(kind="replace", data=dict(data), expected_revision=expected_revision)

    @classmethod
    def delete(cls, *, expected_revision: str | None = None) -> Self:
        """End the session."""
        return cls(kind="delete", expected_revision=expected_revision)

    @classmethod
    def touch(cls) -> Self:
        """Slide the session's life on."""
        return cls(kind="touch")


class Operation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One call of one client, sent once. Times are seconds of CLOCK_MONOTONIC, the same for all processes of a machine.

    Exactly one of the methods is called when the answer is complete; each notes the time (or takes it as `at`).
    An operation without any is still running, which says as much as `unknown`.
    Raises `ValueError` for an answer that such a call cannot have, or a second answer.
    """

    call: Call
    session_id: str | None = None
    """None: a create whose id the service draws and has not told. Set it before the answer is noted."""
    by: str = ""
    """The host or client, for the reader of a failure."""
    started: float
    finished: float | None = None
    outcome: Outcome | None = None
    data: dict[str, Any] | None = None
    """The session's attributes as they were answered; None: not told."""
    revision: str | None = None
    """The session's revision as it was answered; None: not told."""
    reason: str = ""

    def answered(
        self, *, data: Mapping[str, Any] | None = None, revision: str | None = None, at: float | None = None
    ) -> None:
        """The session is there; a change or touch has been made. None: the answer does not tell it."""
        self.data = None if data is None else dict(data)
        self.revision = revision
        self._finish("answered", at)

    def ended(self, *, at: float | None = None) -> None:
        """A delete has ended the session."""
        self._finish("ended", at)

    def absent(self, *, at: float | None = None) -> None:
        """There is no such session."""
        self._finish("absent", at)

    def exists(self, *, at: float | None = None) -> None:
        """A create was refused, because the id is in use or has been."""
        self._finish("exists", at)

    def conflicted(self, *, revision: str | None = None, at: float | None = None) -> None:
        """The session has another revision than the expected one: this one, if it was told."""
        self.revision = revision
        self._finish("conflicted", at)

    def refused(self, reason: str = "", *, at: float | None = None) -> None:
        """Nothing happened: a promise that the call has no effect, not now and not later."""
        self.reason = reason
        self._finish("refused", at)

    def unknown(self, reason: str = "", *, at: float | None = None) -> None:
        """It may have taken effect, or may later, once; or never."""
        self.reason = reason
        self._finish("unknown", at)

    def _finish(self, outcome: Outcome, at: float | None) -> None:
        if self.outcome is not None:
            raise ValueError(f"the {self.call.kind} has its answer already: {self.outcome}")
        if self.call.kind not in _POSSIBLE[outcome]:
            raise ValueError(f"a {self.call.kind} cannot be answered: {outcome}")
        if outcome == "conflicted" and self.call.expected_revision is None:
            raise ValueError("no revision was expected, so none can conflict")
        self.finished = time.monotonic() if at is None else at
        self.outcome = outcome


class History:
    """The operations of one run: any number of sessions, of clients, and of threads of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._operations: list[Operation] = []

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> Self:
        """A history of operations that were recorded elsewhere, say by several processes."""
        history = cls()
        history._operations = sorted(operations, key=lambda operation: operation.started)
        return history

    def begin(self, call: Call, *, session_id: str | None = None, by: str = "", at: float | None = None) -> Operation:
        """Note a call. To be called before anything is sent, or another's answer seems to come first."""
        started = time.monotonic() if at is None else at
        operation = Operation(call=call, session_id=session_id, by=by, started=started)
        with self._lock:
            self._operations.append(operation)
        return operation

    def sessions(self) -> list[str]:
        """The ids, in the order in which they were first named."""
        with self._lock:
            return list(dict.fromkeys(one.session_id for one in self._operations if one.session_id is not None))

    def operations(self, session_id: str | None = None) -> list[Operation]:
        """The operations on one session, or all of them, in the order in which they began."""
        with self._lock:
            return [one for one in self._operations if session_id is None or one.session_id == session_id]
