"""A history that no order explains: what went wrong, told to a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import msgspec

from tests.linearizability.register import State, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.linearizability.history import Operation

Kind = Literal["lost", "stale", "resurrected", "phantom", "impossible"]

WRITES = {"create", "update", "replace"}
SHOWN = 16
"""Calls of the prefix that the story shows, the last ones."""


@dataclass(frozen=True)
class Violation:
    """The shortest prefix of a session's history, in the order of the answers, that has no order of its calls."""

    session_id: str
    kind: Kind
    """lost: an acknowledged change, or the session, is gone, or a change was made upon an older value. stale: an older
    value was answered, a newer one is seen again later. resurrected: an ended session is back. phantom: a value that
    nobody wrote, or that only calls wrote of which it was said that nothing happened. impossible: none of these, or
    a revision that was drawn twice."""
    prefix: tuple[Operation, ...]
    """Every call that had begun by then, in the order in which they began."""
    operation: Operation
    """The call whose answer cannot be explained."""
    possible: tuple[State, ...]
    """What the session could have been then, but for changes without an answer of which nobody had seen anything."""

    @classmethod
    def of(cls, operations: Sequence[Operation], last: Operation, states: Iterable[State]) -> Self:
        """The violation at the answer `last`; `states`: what the session could have been when it was given."""
        end = last.finished if last.finished is not None else float("inf")
        prefix = sorted((one for one in operations if one.started <= end), key=lambda one: one.started)
        possible = tuple(sorted(states, key=lambda state: (state.phase, state.data, str(state.revision))))
        return cls(
            session_id=last.session_id or "",
            kind=_kind(operations, prefix, last, possible),
            prefix=tuple(prefix),
            operation=last,
            possible=possible,
        )

    def __str__(self) -> str:
        """The story: what was answered, what the session could have been, and the calls that lead there."""
        first = self.prefix[0].started
        answers = sum(1 for one in self.prefix if _known(one, self.operation))
        shown = self.prefix[-SHOWN:]
        lines = [
            f"session {self.session_id}: {self.kind}. No order of its first {answers} answers explains the last one:",
            f"  {_called(self.operation)} -> {_told(self.operation)}",
            "when, by all other answers, the session could only have been",
            *[f"  {_shown(state)}" for state in self.possible[:SHOWN]],
            f"the last {len(shown)} of {len(self.prefix)} calls, in ms from the first",
            *[f"  {_timed(one, first, self.operation)}" for one in shown],
        ]
        return "\n".join(lines)


def _kind(
    operations: Sequence[Operation], prefix: Sequence[Operation], last: Operation, possible: Sequence[State]
) -> Kind:
    drawn = {one.revision for one in prefix if one is not last and _draws(one)}
    if not possible or (_draws(last) and last.revision in drawn):
        return "impossible"
    if last.outcome == "absent":
        return "lost"
    if last.call.kind != "create" and any(state.alive for state in possible):
        return _wrong_value(operations, prefix, last, [state for state in possible if state.alive])
    if last.outcome == "answered" and any(state.alive for state in possible):
        return "impossible"  # an id was given twice
    return "resurrected" if any(state.phase == "ended" for state in possible) else "phantom"


def _draws(operation: Operation) -> bool:
    return operation.outcome == "answered" and operation.call.kind in WRITES and operation.revision is not None


def _wrong_value(
    operations: Sequence[Operation], prefix: Sequence[Operation], last: Operation, possible: Sequence[State]
) -> Kind:
    answered = set(frozen(last.data or {}))
    written = {pair for one in prefix if one.outcome != "refused" for pair in frozen(one.call.data)}
    if not answered <= written:
        return "phantom"
    if last.call.kind in {"update", "replace"} and last.outcome == "answered":
        return "lost"  # one was made upon the other's past, so one of the two is not there
    later = [one for one in operations if one.outcome == "answered" and one.started > (last.finished or 0)]
    pairs = {pair for one in later for pair in frozen(one.data or {})}
    revisions = {one.revision for one in later if one.revision is not None}
    if any(state.revision in revisions or pairs & (set(state.data) - answered) for state in possible):
        return "stale"  # the newer value was there all the time
    older = {one.revision for one in prefix if one.revision is not None and one is not last}
    return "lost" if last.data is not None or last.revision in older else "impossible"


def _known(operation: Operation, last: Operation) -> bool:
    """Whether the answer was there when the last one came."""
    if operation.finished is None or operation.outcome in {None, "unknown", "refused"}:
        return False
    return operation.finished <= (last.finished or 0)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _shown(state: State) -> str:
    if not state.alive:
        return "not created yet" if state.phase == "never" else "ended"
    data = ", ".join(f'"{name}": {value.decode()}' for name, value in state.data)
    return f"{{{data}}} revision {state.revision if isinstance(state.revision, str) else 'not told'}"


def _called(operation: Operation) -> str:
    call = operation.call
    parts = [operation.by, call.kind]
    if call.kind in {"create", "update", "replace"}:
        parts.append(_json(call.data))
    if call.remove:
        parts.append("without " + " ".join(call.remove))
    if call.expected_revision is not None:
        parts.append(f"if {call.expected_revision}")
    return " ".join(part for part in parts if part)


def _told(operation: Operation) -> str:
    parts: list[str] = [operation.outcome or "running"]
    if operation.data is not None:
        parts.append(_json(operation.data))
    if operation.revision is not None:
        parts.append(f"revision {operation.revision}")
    if operation.reason:
        parts.append(f"({operation.reason})")
    return " ".join(parts)


def _timed(operation: Operation, first: float, last: Operation) -> str:
    began = f"{(operation.started - first) * 1000:10.3f}"
    if operation.finished is None or operation.finished > (last.finished or 0):
        return f"{began} -        ...  {_called(operation)} -> no answer yet"
    mark = "  <== this answer" if operation is last else ""
    return f"{began} - {(operation.finished - first) * 1000:10.3f}  {_called(operation)} -> {_told(operation)}{mark}"
