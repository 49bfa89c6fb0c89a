"""One session as a register with merges: what a call does to it, and which answers it can have.

A state is *never* (not created yet), *ended* (deleted or expired: it never comes back), or attributes with a revision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.linearizability.history import Call, Operation

Attributes = tuple[tuple[str, bytes], ...]
"""Name and canonical JSON, by name."""

_encode = msgspec.json.Encoder(order="deterministic").encode


class State(NamedTuple):
    """What the session is between two calls that take effect."""

    phase: str
    """never, alive, ended."""
    data: Attributes = ()
    revision: str | int | None = None
    """The number of the change that drew it, where no answer of that change told it."""
    lives_until: float = math.inf
    """Before this time it cannot expire."""
    names: frozenset[tuple[str, int]] = frozenset()
    """The revisions that others were answered, by the changes which drew them without telling."""

    @property
    def alive(self) -> bool:
        """Whether it can be read and changed."""
        return self.phase == "alive"


NEVER = State("never")
ENDED = State("ended")


def frozen(data: Mapping[str, Any]) -> Attributes:
    """Attributes as part of a state."""
    return tuple(sorted((name, _encode(value)) for name, value in data.items()))


@dataclass(frozen=True)
class Rules:
    """What the store under test is allowed."""

    dirty_reads: bool = False
    """A read may show a change that is not acknowledged yet, and that vanishes again. Only for histories in which
    Redis may lose its data while sessions are mirrored (docs/ownership.md, section 12, *accepted*)."""
    repeated_ends: bool = False
    """A delete of a session that has been deleted already may be answered as if it had ended it."""


class Step(NamedTuple):
    """An operation as the register sees it. `told` None: no answer, so it may take effect once, or never."""

    number: int
    call: Call
    told: str | None
    data: Attributes
    """What it writes."""
    seen: Attributes | None
    """The attributes that it was answered."""
    revision: str | None
    """The revision that it was answered."""
    started: float
    finished: float

    @property
    def observes(self) -> str | None:
        """The revision that the session must have had before the call, if the call says."""
        if self.told in {"answered", "ended"} and self.call.expected_revision is not None:
            return self.call.expected_revision
        return self.revision if self.reads or self.told == "conflicted" else None

    @property
    def reads(self) -> bool:
        """Whether it was answered with the session as it was, unchanged."""
        return self.told == "answered" and self.call.kind in {"get", "touch"}

    @property
    def draws(self) -> str | None:
        """The revision that it gave the session, if the answer told it."""
        return self.revision if self.told == "answered" and not self.reads else None


def steps_of(operations: Iterable[Operation], *, until: float = math.inf) -> list[Step]:
    """The operations as they were known at the time `until`, by their beginning, without those that explain nothing."""
    steps = (_step_of(operation, until) for operation in sorted(operations, key=lambda one: one.started))
    return [step._replace(number=number) for number, step in enumerate(step for step in steps if step is not None)]


def _step_of(operation: Operation, until: float) -> Step | None:
    call = operation.call
    told = operation.outcome if operation.finished is not None and operation.finished <= until else None
    if operation.outcome == "refused" or operation.started > until:
        return None
    if told in {None, "unknown"}:
        if call.kind in {"get", "touch"}:  # a touch may lengthen a life, which explains nothing
            return None
        return Step(0, call, None, frozen(call.data), None, None, operation.started, math.inf)
    seen = None if operation.data is None else frozen(operation.data)
    finished = math.inf if operation.finished is None else operation.finished
    return Step(0, call, told, frozen(call.data), seen, operation.revision, operation.started, finished)


class Register:
    """The rules of one session's history. `steps`: all that was done to it."""

    def __init__(self, steps: Iterable[Step], rules: Rules) -> None:
        steps = list(steps)
        self._rules = rules
        self._drawn = {step.draws for step in steps if step.draws is not None}
        ttls = [step.call.ttl for step in steps if step.call.kind == "create" and step.call.ttl is not None]
        self._ttl = min(ttls, default=math.inf)
        self._merges: dict[tuple[Attributes, Attributes, tuple[str, ...]], Attributes] = {}

    def after(self, state: State, step: Step) -> State | None:
        """The state after the call has taken effect with the answer that it had; None: it cannot have had it here."""
        if step.told == "absent":
            return None if state.alive else state
        if step.told == "exists":
            return None if state.phase == "never" else state
        if step.call.kind == "create":
            return self._created(state, step)
        if not state.alive:
            again = step.told == "ended" and state.phase == "ended" and self._rules.repeated_ends
            return state if again else None
        return self._conflicted(state, step) if step.told == "conflicted" else self._done(state, step)

    def expired(self, state: State, latest: float) -> State | None:
        """The state after the session has expired by itself, no later than at `latest`; None: it cannot have."""
        mortal = state.alive and state.lives_until < math.inf
        return ENDED if mortal and state.lives_until <= latest else None

    def knowing(self, state: State, revision: str) -> State | None:
        """The state, if this can be its revision. One that its change did not tell may be any that no other told."""
        if state.revision == revision:
            return state
        if not isinstance(state.revision, int) or revision in self._drawn:
            return None
        name = (revision, state.revision)
        if any((known == name[0]) != (number == name[1]) for known, number in state.names):
            return None
        return state._replace(revision=revision, names=state.names | {name})

    def shows(self, state: State, step: Step) -> State | None:
        """The state, if the attributes and the revision that were answered can be its own."""
        if step.seen is not None and step.seen != state.data:
            return None
        return state if step.revision is None else self.knowing(state, step.revision)

    def written(self, state: State, step: Step) -> Attributes:
        """The attributes after an update or a replace."""
        if step.call.kind == "replace":
            return step.data
        key = (state.data, step.data, step.call.remove)
        merged = self._merges.get(key)
        if merged is None:
            removed = set(step.call.remove)
            attributes = {**dict(state.data), **dict(step.data)}
            merged = tuple(sorted((name, value) for name, value in attributes.items() if name not in removed))
            self._merges[key] = merged
        return merged

    def _created(self, state: State, step: Step) -> State | None:
        if state.phase != "never":
            return None
        ttl = math.inf if step.call.ttl is None else step.call.ttl
        created = State("alive", step.data, _drawn(step), step.started + ttl)
        return created if step.seen is None or step.seen == step.data else None

    def _done(self, state: State, step: Step) -> State | None:
        """After a read, a change or an end of a session that is there."""
        expected = step.call.expected_revision
        known = state if expected is None else self.knowing(state, expected)
        if known is None:
            return None
        if step.call.kind == "delete":
            return ENDED
        return self._read(known, step) if step.call.kind in {"get", "touch"} else self._changed(known, step)

    def _conflicted(self, state: State, step: Step) -> State | None:
        if step.call.expected_revision in {state.revision, step.revision}:
            return None
        return state if step.revision is None else self.knowing(state, step.revision)

    def _read(self, state: State, step: Step) -> State | None:
        known = self.shows(state, step)
        if known is None or step.call.kind == "get":
            return known
        return known._replace(lives_until=max(known.lives_until, step.started + self._ttl))

    def _changed(self, state: State, step: Step) -> State | None:
        data = self.written(state, step)
        if step.seen is not None and step.seen != data:
            return None
        lives_until = max(state.lives_until, step.started + self._ttl)
        return State("alive", data, _drawn(step), lives_until, state.names)


def _drawn(step: Step) -> str | int:
    return step.number if step.revision is None else step.revision
