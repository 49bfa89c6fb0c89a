"""A session that really is one object, and clients that call it late, die on the way, or are told lies about it.

Time is what the plans say, so a history is the same each time it is played.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tests.linearizability.history import Call, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

Fate = Literal["answered", "refused", "unknown", "dead"]
Fault = Literal["none", "loses", "reads old", "revives", "writes all", "does what it refuses"]

OLD = 20
"""An old read is so many changes old, where there were so many."""


@dataclass(frozen=True)
class Plan:
    """One call: it begins, reaches the session, and is answered. An unknown one may reach it after its answer.

    `guarded`: the call expects the revision that the session had when the call began.
    """

    call: Call
    starts: float
    arrives: float
    answers: float
    fate: Fate = "answered"
    """dead: it never arrives, and its outcome is unknown."""
    guarded: bool = False
    fault: Fault = "none"
    """What the session does wrong with this call."""


@dataclass
class _Object:
    """The session. `data` None: not created yet, or ended."""

    data: dict[str, Any] | None = None
    revision: str = ""
    ended: bool = False
    past: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def write(self, data: dict[str, Any]) -> None:
        if self.data is not None:
            self.past.append((self.data, self.revision))
        self.data, self.revision = data, f"r{next(self.numbers)}"


def play(plans: Sequence[Plan], *, tells_revisions: bool = True) -> list[Operation]:
    """The history of the calls, in the order of the plans."""
    session = _Object()
    operations: list[Operation] = []
    events: list[tuple[float, int, int]] = []  # time, 0 begins 1 arrives 2 is answered, which
    for number, plan in enumerate(plans):
        operations.append(Operation(call=plan.call, session_id="s", by=f"client{number}", started=plan.starts))
        for what, at in enumerate((plan.starts, plan.arrives, plan.answers)):
            heapq.heappush(events, (at, what, number))
    answers: dict[int, Operation] = {}
    at_start: dict[int, _Object] = {}
    while events:
        at, what, number = heapq.heappop(events)
        plan, operation = plans[number], operations[number]
        if what == 0:
            at_start[number] = replace(session, past=list(session.past))
            if plan.guarded:
                call = Call(kind=plan.call.kind, data=plan.call.data, expected_revision=session.revision)
                operation.call = call
        elif what == 1 and (plan.fate in {"answered", "unknown"} or plan.fault == "does what it refuses"):
            told = Operation(call=operation.call, session_id="s", started=plan.starts)
            _arrive(session, told, plan.fault, at_start[number])
            answers[number] = told
        elif what == 2:
            _answer(operation, plan, answers.get(number), at, tells_revisions=tells_revisions)
    return operations


def _answer(operation: Operation, plan: Plan, told: Operation | None, at: float, *, tells_revisions: bool) -> None:
    if plan.fate == "refused":
        operation.refused("no", at=at)
    elif plan.fate != "answered" or told is None:
        operation.unknown("cut", at=at)
    else:
        operation.outcome, operation.finished, operation.data = told.outcome, at, told.data
        operation.revision = told.revision if tells_revisions else None


def _arrive(session: _Object, told: Operation, fault: Fault, at_start: _Object) -> None:
    """What the session does with a call, and what it tells."""
    call = told.call
    if fault == "revives" and session.ended and session.past:
        session.ended = False
        session.data, session.revision = session.past[-1]
    if fault == "reads old" and call.kind == "get" and at_start.past:
        data, revision = at_start.past[max(0, len(at_start.past) - OLD)]
        told.answered(data=data, revision=revision, at=0)
    elif call.kind == "create":
        if session.data is None and not session.ended:
            _written(session, told, dict(call.data), fault)
        else:
            told.exists(at=0)
    elif session.data is None:
        told.absent(at=0)
    elif call.expected_revision is not None and call.expected_revision != session.revision:
        told.conflicted(revision=session.revision, at=0)
    elif call.kind in {"get", "touch"}:
        told.answered(data=session.data, revision=session.revision, at=0)
    elif call.kind == "delete":
        if fault != "loses":
            session.past.append((session.data, session.revision))
            session.data, session.ended = None, True
        told.ended(at=0)
    elif call.kind == "replace":
        _written(session, told, dict(call.data), fault)
    else:
        base = at_start.data if fault == "writes all" and at_start.data is not None else session.data
        data = {name: value for name, value in {**base, **call.data}.items() if name not in call.remove}
        _written(session, told, data, fault)


def _written(session: _Object, told: Operation, data: dict[str, Any], fault: Fault) -> None:
    if fault == "loses":
        told.answered(data=data, revision=f"r{next(session.numbers)}", at=0)
        return
    session.write(data)
    told.answered(data=data, revision=session.revision, at=0)
