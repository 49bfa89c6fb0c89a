"""What a ledger found and measured, as a table for people and as JSON for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tests.ledger.phases import OVERALL


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished run. Times are seconds. `lost`, `stale`, `resurrected` and the like count sessions."""

    seed: int
    hosts: list[str]
    checked: int
    """Histories that were checked, each of one session."""
    confirmed: int
    """Sessions that every host still showed at the end as they had been when their history was checked."""
    unread: int
    """Sessions that some host did not answer for at the end, so that nothing is known of them."""
    undecided: int
    found: dict[str, int]
    held_back: int
    """Requests that were due and not sent, because too many were waiting for an answer."""
    whole: dict[str, Any]
    phases: list[dict[str, Any]]
    stories: list[str]

    @property
    def lost(self) -> int:
        """Sessions that miss an acknowledged write, or answered what nothing explains."""
        return sum(count for kind, count in self.found.items() if kind not in {"resurrected", "stale"})

    @property
    def resurrected(self) -> int:
        """Sessions that had ended and came back."""
        return self.found.get("resurrected", 0)

    @property
    def stale(self) -> int:
        """Sessions of which an older value was answered while the newer one was there."""
        return self.found.get("stale", 0)

    @property
    def ok(self) -> bool:
        """Whether the run proves that nothing was lost, stale or resurrected; what was not seen proves nothing."""
        return not (self.found or self.unread or self.undecided) and self.checked > 0

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        counts = {"ok": self.ok, "lost": self.lost, "resurrected": self.resurrected, "stale": self.stale}
        return counts | asdict(self)

    def table(self) -> str:
        """For people."""
        whole = self.whole
        rows = [
            ("seed", self.seed),
            ("requests", f"{whole['requests']} in {whole['seconds']:.0f} s through {len(self.hosts)} hosts"),
            ("acknowledged", f"{whole['acknowledged']}, of them {whole['acknowledged_writes']} changes"),
            *((f"failed: {reason}", count) for reason, count in whole["failed"].items()),
            ("held back", self.held_back),
            ("longer than 3 s", whole["hangs"]),
            ("histories checked", self.checked),
            ("confirmed at the end", self.confirmed),
            ("unread at the end", self.unread),
            ("undecided", self.undecided),
            ("lost", self.lost),
            ("resurrected", self.resurrected),
            ("stale", self.stale),
            *((f"longest silence: {label}", f"{length:.3f} s") for label, length in whole["silence"].items()),
            ("p99", "-" if whole["p99_ms"] is None else f"{whole['p99_ms']:.1f} ms"),
        ]
        lines = [f"{name:42} {value}" for name, value in rows]
        if len(self.phases) > 1:
            lines += ["", f"{'phase':50} {'s':>6} {'answered':>8} {'failed':>7} {'silence s':>9} {'p99 ms':>8}"]
            lines += [_row(phase) for phase in self.phases]
        return "\n".join([*lines, *(f"\n{story}" for story in self.stories)])


def _row(phase: dict[str, Any]) -> str:
    p99 = "-" if phase["p99_ms"] is None else f"{phase['p99_ms']:.1f}"
    silence = phase["silence"].get(OVERALL, 0.0)
    counts = f"{phase['acknowledged']:>8} {sum(phase['failed'].values()):>7}"
    return f"{phase['name'][:50]:50} {phase['seconds']:>6.1f} {counts} {silence:>9.2f} {p99:>8}"
