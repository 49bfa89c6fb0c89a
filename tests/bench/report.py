"""The form that every measured figure takes: a printed table, and `out/TARGET.json` for machines."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

OUT = Path(__file__).resolve().parents[2] / "out"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure: `value` is the median of `runs`; `goal` reads like `<= 30`, `>= 0.7`, or is None for no goal."""

    name: str
    unit: str
    runs: list[float]
    goal: str | None = None
    value: float = field(init=False)
    ok: bool = field(init=False)

    def __post_init__(self) -> None:
        """Judge the median against the goal."""
        value = statistics.median(self.runs)
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "ok", self.goal is None or meets(value, self.goal))


def meets(value: float, goal: str) -> bool:
    """Whether `value` meets a goal such as `<= 0.6`."""
    relation, _, bound = goal.partition(" ")
    if relation not in {"<=", ">="}:
        raise ValueError(f"a goal begins with <= or >=: {goal!r}")
    return value <= float(bound) if relation == "<=" else value >= float(bound)


def publish(target: str, figures: list[Figure]) -> int:
    """Print the table, write `out/TARGET.json`, and return the exit code: 1 when a goal is missed."""
    show(figures)
    return write(target, figures)


def show(figures: list[Figure]) -> None:
    """Print the table."""
    width = max(len(figure.name) for figure in figures)
    print(f"\n{'figure':{width}}  {'median':>10}  {'unit':8}  {'goal':8}  ok   runs")
    for figure in figures:
        runs = " ".join(f"{run:.3g}" for run in figure.runs)
        verdict = ("yes" if figure.ok else "NO") if figure.goal else "-"
        row = f"{figure.name:{width}}  {figure.value:>10.3g}  {figure.unit:8}  {figure.goal or '-':8}"
        print(f"{row}  {verdict:3}  {runs}")


def write(target: str, figures: list[Figure]) -> int:
    """Write `out/TARGET.json`; the exit code is 1 when a goal is missed."""
    OUT.mkdir(exist_ok=True)
    (OUT / f"{target}.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0 if all(figure.ok for figure in figures) else 1
