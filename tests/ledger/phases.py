"""What a run measures, whole and between marks: answers, failures by reason, latencies, and the longest silences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.ledger.latency import Latency
from tests.ledger.silence import Silence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.ledger.answers import Answer

OVERALL = "overall"
ONE_SESSION = "one session"
"""The longest time in which the reads, or the changes, of some one session were asked for and not answered."""

HANG = 3.0
"""Seconds after which an answer counts as a hang: the stores' deadline is 1 s, and a change may need several steps."""


@dataclass
class Phase:
    """The figures of one stretch of the run. Times are seconds."""

    name: str
    started: float
    ended: float | None = None
    requests: int = 0
    acknowledged: int = 0
    acknowledged_writes: int = 0
    hangs: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    silence: dict[str, float] = field(default_factory=dict)
    latency: Latency = field(default_factory=Latency)

    def note(self, answer: Answer, *, changes: bool) -> None:
        """Count an answer."""
        self.requests += 1
        self.hangs += answer.ended - answer.started > HANG
        if answer.acknowledged:
            self.acknowledged += 1
            self.acknowledged_writes += changes
            self.latency.add(answer.ended - answer.started)
        else:
            self.failed[answer.reason] += 1

    def silent(self, label: str, since: float, until: float) -> None:
        """Note a silence; what of it lies before the phase does not count."""
        length = until - max(since, self.started)
        self.silence[label] = max(self.silence.get(label, 0.0), length)

    def figures(self) -> dict[str, Any]:
        """For the report."""
        p99 = self.latency.percentile(99)
        return {
            "name": self.name,
            "seconds": round((self.ended or self.started) - self.started, 3),
            "requests": self.requests,
            "acknowledged": self.acknowledged,
            "acknowledged_writes": self.acknowledged_writes,
            "failed": dict(self.failed.most_common()),
            "hangs": self.hangs,
            "silence": {label: round(length, 3) for label, length in sorted(self.silence.items())},
            "p99_ms": None if p99 is None else round(p99 * 1000, 2),
        }


class Phases:
    """Phases follow one another at each mark. A silence that outlasts a mark counts in both phases, whole in the
    first: what a fault began is the fault's, whatever is done meanwhile.
    """

    def __init__(self, name: str, started: float) -> None:
        self.whole = Phase("the whole run", started)
        self.all = [Phase(name, started)]
        self._by_label = Silence()
        self._by_session = Silence()

    def mark(self, name: str, at: float) -> Phase:
        """Begin a phase."""
        self.all[-1].ended = at
        self.all.append(Phase(name, at))
        return self.all[-1]

    def asked(self, labels: Sequence[str], session: object, at: float) -> None:
        """A request leaves: under its labels, and to a session unless that is None."""
        for label in (OVERALL, *labels):
            self._by_label.asked(label, at)
        if session is not None:
            self._by_session.asked(session, at)

    def answered(self, labels: Sequence[str], session: object, answer: Answer, *, changes: bool) -> None:
        """A request that left has ended."""
        self.whole.note(answer, changes=changes)
        self.all[-1].note(answer, changes=changes)
        for label in (OVERALL, *labels):
            if answer.acknowledged:
                self._silence(label, self._by_label.acknowledged(label, answer.ended), answer.ended)
            else:
                self._by_label.failed(label)
        if session is None:
            return
        if answer.acknowledged:
            self._silence(ONE_SESSION, self._by_session.acknowledged(session, answer.ended), answer.ended)
        else:
            self._by_session.failed(session)

    def forget(self, session: object, at: float) -> None:
        """Nobody will ask this session again; a silence that lasts counts until `at`."""
        since = self._by_session.forget(session)
        if since is not None:
            self._silence(ONE_SESSION, since, at)

    def settle(self, at: float) -> None:
        """The load ends; the reading back that follows is no part of the last phase."""
        self.mark("read back", at)

    def end(self, at: float) -> None:
        """Close the last phase; what is silent now has been so until now."""
        self.all[-1].ended = self.whole.ended = at
        for label, since in self._by_label.lasting():
            self._silence(str(label), since, at)
        for _, since in self._by_session.lasting():
            self._silence(ONE_SESSION, since, at)

    def _silence(self, label: str, since: float, until: float) -> None:
        self.whole.silent(label, since, until)
        for phase in reversed(self.all):
            if phase.ended is not None and phase.ended <= since:
                break
            phase.silent(label, since, until)
