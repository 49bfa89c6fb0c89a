"""Is there an order of a session's operations that explains every answer, each between its start and its end?

The search is that of Wing and Gong with Lowe's memory of states seen: http://www.cs.ox.ac.uk/people/gavin.lowe/LinearizabiltyTesting/.
Values are unique per session, so that answers leave few orders to try.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

Data = dict[str, Any]


class Call(msgspec.Struct, frozen=True):
    """What was asked. `data` is what a create or a replace sets, or what an update changes."""

    kind: Literal["create", "get", "touch", "update", "replace", "delete"]
    data: Data = {}
    removed: tuple[str, ...] = ()

    @classmethod
    def create(cls, data: Data) -> Call:
        """A new session."""
        return cls("create", data)

    @classmethod
    def get(cls) -> Call:
        """A read."""
        return cls("get")

    @classmethod
    def touch(cls) -> Call:
        """A read that is asked for as a change of the session's life."""
        return cls("touch")

    @classmethod
    def update(cls, changes: Data, remove: Sequence[str] = ()) -> Call:
        """A merge of single attributes."""
        return cls("update", changes, tuple(remove))

    @classmethod
    def replace(cls, data: Data) -> Call:
        """All attributes anew."""
        return cls("replace", data)

    @classmethod
    def delete(cls) -> Call:
        """The end of a session."""
        return cls("delete")

    @property
    def changes(self) -> bool:
        """Whether it may change what readers see."""
        return self.kind in {"create", "update", "replace", "delete"}


class Operation(msgspec.Struct):
    """One request, and its answer once it is there. Times are seconds of one clock."""

    session_id: str
    by: str
    call: Call
    started: float
    finished: float | None = None
    outcome: Literal["running", "answered", "ended", "absent", "refused", "unknown"] = "running"
    data: Data | None = None
    revision: str | None = None
    reason: str = ""

    @property
    def answered(self) -> bool:
        """Whether an answer binds the order."""
        return self.outcome in {"answered", "ended", "absent"}


class Recording:
    """An operation that has begun. Exactly one method is called when it is over; none stands for an unknown outcome."""

    def __init__(self, operation: Operation, clock: Callable[[], float]) -> None:
        self._operation = operation
        self._clock = clock

    @property
    def session_id(self) -> str:
        """The session's id; of a create it is set before its answer is noted."""
        return self._operation.session_id

    @session_id.setter
    def session_id(self, value: str) -> None:
        self._operation.session_id = value

    def answered(self, data: Data | None = None, revision: str | None = None) -> None:
        """Done; `data` where the answer shows it."""
        self._operation.data = data
        self._operation.revision = revision
        self._finish("answered")

    def ended(self) -> None:
        """A delete: this call ended the session."""
        self._finish("ended")

    def absent(self) -> None:
        """There is no such session."""
        self._finish("absent")

    def refused(self, reason: str) -> None:
        """Nothing happened."""
        self._finish("refused", reason)

    def unknown(self, reason: str) -> None:
        """It takes effect once: now, later, or never."""
        self._finish("unknown", reason)

    def _finish(self, outcome: Literal["answered", "ended", "absent", "refused", "unknown"], reason: str = "") -> None:
        self._operation.outcome = outcome
        self._operation.reason = reason
        self._operation.finished = self._clock()


class History:
    """Records the operations of any number of sessions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._operations: list[Operation] = []

    def begin(self, call: Call, *, session_id: str = "", by: str = "") -> Recording:
        """Note an operation's start, before it is sent."""
        self._operations.append(Operation(session_id, by, call, self._clock()))
        return Recording(self._operations[-1], self._clock)

    def operations(self, session_id: str) -> list[Operation]:
        """All operations of a session, in the order of their starts."""
        return [operation for operation in self._operations if operation.session_id == session_id]


class Rules(msgspec.Struct, frozen=True):
    """`repeated_ends`: a delete of a session that has ended may be answered as if it had ended it."""

    repeated_ends: bool = False


class Violation(msgspec.Struct):
    """A history without an order: the shortest prefix (in the order of answers) that has none, and its last answer."""

    session_id: str
    kind: Literal["lost", "stale", "resurrected"]
    operation: Operation
    prefix: list[Operation]

    def __str__(self) -> str:
        """The story, one line per operation."""
        origin = self.prefix[0].started
        lines = [f"{self.kind}: no order explains the last of these answers"]
        for each in self.prefix:
            end = "..." if each.finished is None else f"{each.finished - origin:.4f}"
            given = {**each.call.data, **dict.fromkeys(each.call.removed)} or ""
            shown = "" if each.data is None else f" {each.data}"
            lines.append(
                f"  {each.started - origin:.4f}-{end} {each.by}: {each.call.kind} {given} -> {each.outcome}{shown}"
            )
        return "\n".join(lines)


class UndecidedError(Exception):
    """The search was given up; this is no pass."""


_State = frozenset[tuple[str, Any]] | None
"""A live session's attributes; None: there is no session."""


def check(operations: Sequence[Operation], rules: Rules, limit: int = 2_000_000) -> Violation | None:
    """Explain the operations of one session. Raises `UndecidedError` after `limit` states."""
    history = [each for each in operations if each.outcome != "refused"]
    if _explained(history, rules, limit):
        return None
    culprit, prefix = _shortest(history, rules, limit)
    return Violation(culprit.session_id, _kind(history, rules, limit), culprit, prefix)


def _kind(history: list[Operation], rules: Rules, limit: int) -> Literal["lost", "stale", "resurrected"]:
    """Stale where all is well but for reads of which the last answers say that the newer value is still there."""
    history = list(history)
    last = max(each.finished or 0.0 for each in history if each.answered)
    while not _explained(history, rules, limit):
        culprit, prefix = _shortest(history, rules, limit)
        ends = [each for each in prefix if _tells_end(each) and (each.finished or math.inf) < culprit.started]
        if culprit.outcome == "answered" and ends:
            return "resurrected"
        if culprit.call.changes or culprit.finished == last:
            return "lost"
        history.remove(culprit)
    return "stale"


def _tells_end(each: Operation) -> bool:
    return each.outcome in {"ended", "absent"}


def _shortest(history: list[Operation], rules: Rules, limit: int) -> tuple[Operation, list[Operation]]:
    """The first answer that cannot be explained, and what was known when it came."""
    answers = sorted((each for each in history if each.answered), key=lambda each: each.finished or 0.0)
    low, high = 0, len(answers) - 1
    while low < high:
        middle = (low + high) // 2
        if _explained(_until(history, answers[middle]), rules, limit):
            low = middle + 1
        else:
            high = middle
    return answers[low], _until(history, answers[low])


def _until(history: list[Operation], last: Operation) -> list[Operation]:
    """What had begun when the answer of `last` came; what had no answer then has an unknown outcome."""
    end = last.finished or math.inf
    return [
        each
        if (each.finished or math.inf) <= end
        else msgspec.structs.replace(each, outcome="running", finished=None, data=None)
        for each in history
        if each.started <= end
    ]


def _explained(history: list[Operation], rules: Rules, limit: int) -> bool:
    """Whether there is an order. Unknown operations stand anywhere behind their start, or nowhere."""
    wanted = [each for each in history if each.answered or each.call.changes]
    wanted.sort(key=lambda each: each.started)
    ends = [each.finished if each.answered and each.finished is not None else math.inf for each in wanted]
    binding = sum(1 << place for place, each in enumerate(wanted) if each.answered)
    seen: set[tuple[int, _State]] = {(0, None)}
    stack: list[tuple[int, int, _State]] = [(0, 0, None)]
    while stack:
        first, done, state = stack.pop()
        if done & binding == binding:
            return True
        while done >> first & 1:
            first += 1
        earliest = math.inf
        place = first
        # Only what began before the earliest end of all that is left may come next.
        candidates = []
        while place < len(wanted) and wanted[place].started <= earliest:
            if not done >> place & 1:
                candidates.append(place)
                earliest = min(earliest, ends[place])
            place += 1
        for place in reversed(candidates):
            if wanted[place].started > earliest:
                continue
            fits, after = _applied(wanted[place], state, rules)
            key = (done | 1 << place, after)
            if fits and key not in seen:
                if len(seen) >= limit:
                    raise UndecidedError(f"no answer after {limit} states")
                seen.add(key)
                stack.append((first, *key))
    return False


def _applied(operation: Operation, state: _State, rules: Rules) -> tuple[bool, _State]:
    """Whether the operation's answer fits a session in this state, and the state after it."""
    call, outcome = operation.call, operation.outcome
    if outcome == "absent":
        return state is None, state
    if call.kind == "create":
        return state is None, frozenset(call.data.items())
    if call.kind == "delete":
        return state is not None or outcome != "ended" or rules.repeated_ends, None
    if state is None:
        return outcome != "answered", None
    after = state
    if call.kind == "replace":
        after = frozenset(call.data.items())
    elif call.kind == "update":
        left = {name: value for name, value in state if name not in call.removed} | call.data
        after = frozenset((name, value) for name, value in left.items() if name not in call.removed)
    return operation.data is None or frozenset(operation.data.items()) == after, after
