"""`migrate report`: the story of a migration, read from the control tables alone. Asks no host and no Redis.

Ids of sessions are cut: a report travels, and in an application an id may be what a caller logs in with.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from session_ops import __version__
from session_ops.migration.quarantine import Quarantine
from session_ops.migration.samples import Samples
from session_ops.stores.control_schema import COUNTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from session_ops.migration.audit import Audit, Line
    from session_ops.migration.kept import Kept
    from session_ops.migration.run_records import Run, Slice
    from session_ops.migration.runs import RunStore
    from session_ops.migration.samples import Sample
    from session_ops.migration.stages import Stages, Step
    from session_ops.owned_access import OwnedStore

RUNS: Final = 20
"""Of the runs the last so many are told."""

LINES: Final = 500
"""Of the audit the last so many lines."""

ROWS: Final = 20
"""Of the quarantine the first so many rows."""

POINTS: Final = 120
"""Of a run's course at most so many."""

VALIDATED: Final = "validated"
"""The audit's word for a validation that was made."""

_ID_SHOWN: Final = 8


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run. `seconds`: from its beginning to the part's end; `moved`: so far; latencies the worst, in ms."""

    seconds: float
    moved: int
    rate: float
    redis_ms: float | None
    legacy_ms: float | None
    p99_ms: float | None
    throttled: bool


class Throttling(msgspec.Struct, frozen=True, kw_only=True):
    """Why movers gave way (figures left out), for how many seconds of all of them together, and the last words."""

    reason: str
    seconds: float
    last: str


class RunTold(msgspec.Struct, frozen=True, kw_only=True):
    """A run: what `migrate status` says of it, its course and what held it up."""

    run: dict[str, Any]
    course: list[Point]
    throttling: list[Throttling]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. Times in ms, the database's; steps, runs and audit lines with the last one first. `kept`: there is no
    legacy store any more, and this is what Redis keeps of the time until then, of the runs the last one's row.
    """

    made_at: int
    kept: bool = False
    release: str
    stage: str
    target: str
    generation: int
    mode: str
    redis: str
    holder: str | None
    steps: list[dict[str, Any]]
    runs: list[RunTold]
    quarantine: dict[str, int]
    quarantined: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    audit: dict[str, Any]

    @property
    def intact(self) -> bool:
        """Whether the audit's chain holds."""
        return self.audit["broken"] is None


async def report(store: OwnedStore, runs: RunStore, stages: Stages, audit: Audit) -> Report:
    """Read it. Raises `PreconditionError` where the table is not prepared, and `StoreUnavailableError`."""
    stage = await stages.read()
    lock = await runs.lock()
    control = await store.control_store.read()
    samples, kept = Samples(store), Quarantine(store)
    told = []
    for one in await runs.history(RUNS):
        shown = await described(runs, one, lock.now)
        told.append(_told(one, shown, await samples.of(one.run_id), lock.now))
    verdict, lines = await audit.check(), _Lines()
    async for line in audit.lines():
        lines.add(line)
    held = lock.holder is not None and (lock.until or 0) > lock.now
    return Report(
        made_at=lock.now,
        release=__version__,
        stage=stage.stage,
        target=stage.target.text,
        generation=control.generation,
        mode=control.mode,
        redis=control.redis,
        holder=f"{lock.holder} ({lock.purpose})" if held else None,
        steps=[_step(one) for one in stage.steps],
        runs=told,
        quarantine=await kept.counts(),
        quarantined=[{**msgspec.to_builtins(one), "id": cut(one.id)} for one in await kept.list(ROWS)],
        validations=list(lines.validations),
        audit={**msgspec.to_builtins(verdict), "shown": list(lines.last)},
    )


def report_of_kept(kept: Kept) -> Report:
    """What Redis keeps of a migration whose legacy store was retired."""
    lines = _Lines()
    for line in kept.lines:
        lines.add(line)
    stage, run = kept.stage, kept.run
    return Report(
        made_at=kept.at,
        kept=True,
        release=__version__,
        stage=stage.stage,
        target=stage.target.text,
        generation=kept.generation,
        mode="final",
        redis="on",
        holder=None,
        steps=[_step(one) for one in stage.steps],
        runs=[RunTold(run=_described(run, [], kept.at), course=[], throttling=[])] if run is not None else [],
        quarantine={},
        quarantined=[],
        validations=list(lines.validations),
        audit={**msgspec.to_builtins(kept.verdict()), "shown": list(lines.last)},
    )


class _Lines:
    """The audit's last lines, and the validations among all of them; the last one first."""

    def __init__(self) -> None:
        self.last: deque[dict[str, Any]] = deque(maxlen=LINES)
        self.validations: deque[dict[str, Any]] = deque(maxlen=LINES)

    def add(self, line: Line) -> None:
        self.last.appendleft(_line(line))
        if line.what == VALIDATED:
            self.validations.appendleft(self.last[0])


async def described(runs: RunStore, run: Run, now: int) -> dict[str, Any]:
    """A run with what its slices in work have done so far. `now` in ms."""
    return _described(run, await runs.slices(run.run_id), now)


def _described(run: Run, slices: Sequence[Slice], now: int) -> dict[str, Any]:
    counts = {name: getattr(run, name) + sum(getattr(part, name) for part in slices) for name in COUNTS}
    moved = counts["moved_in"] + counts["moved_back"]
    seconds = ((run.ended_at or now) - run.started_at) / 1000
    return {
        **{name: getattr(run, name) for name in ("run_id", "state", "reason", "target", "started_by", "started_at",
                                                 "ended_at", "pass_number", "paused", "rate", "batch")},
        **counts,
        "seconds": round(seconds, 1),
        "per_second": round(moved / seconds, 1) if seconds > 0 else 0.0,
        "movers": [
            {"mover": part.holder, "live": part.until > now, "claimed": len(part.claimed), "throttle": part.reason}
            for part in slices
        ],
    }  # fmt: skip


def course(started: int, ended: int, moved: int, samples: Sequence[Sample]) -> list[Point]:
    """A run's course, of all its movers together, in parts of equal length; none where no sample was taken.

    `moved`: in the whole run, of which what no sample tells is the end's. Times in ms.
    """
    if not samples or ended <= started:
        return []
    width = max(2_000.0, (ended - started) / POINTS)
    count = max(1, round((ended - started) / width))
    width = (ended - started) / count
    parts: list[dict[str, Any]] = [{"moved": 0.0, "throttled": False} for _ in range(count)]
    for sample in samples:
        first = min(count - 1, max(0, int((sample.at - sample.span - started) / width)))
        last = min(count - 1, max(first, int((sample.at - 1 - started) / width)))
        for number in range(first, last + 1):
            part = parts[number]
            part["moved"] += (sample.moved_in + sample.moved_back) / (last - first + 1)
            part["throttled"] = part["throttled"] or sample.reason is not None
            for name in ("redis_us", "legacy_us", "p99_us"):
                value = getattr(sample, name)
                if value is not None:
                    part[name] = max(part.get(name, 0), value)
    parts[-1]["moved"] += max(0, moved - sum(sample.moved_in + sample.moved_back for sample in samples))
    points, done = [], 0.0
    for number, part in enumerate(parts, 1):
        done += part["moved"]
        points.append(
            Point(
                seconds=round(number * width / 1000, 1),
                moved=round(done),
                rate=round(part["moved"] * 1000 / width, 1),
                redis_ms=_milliseconds(part.get("redis_us")),
                legacy_ms=_milliseconds(part.get("legacy_us")),
                p99_ms=_milliseconds(part.get("p99_us")),
                throttled=part["throttled"],
            )
        )
    return points


def throttling(samples: Sequence[Sample]) -> list[Throttling]:
    """What held the movers up, the longest first."""
    seconds: Counter[str] = Counter()
    last: dict[str, str] = {}
    for sample in samples:
        if sample.reason is not None:
            for words in re.split(r", (?!\d)", sample.reason):
                kind = re.sub(r"\d+([.,]\d+)*", "N", words)
                seconds[kind] += sample.span
                last[kind] = words
    return [
        Throttling(reason=kind, seconds=round(span / 1000, 1), last=last[kind]) for kind, span in seconds.most_common()
    ]


def cut(session_id: object) -> str:
    """As much of a session's id as a report shows."""
    text = str(session_id)
    return text if len(text) <= _ID_SHOWN else f"{text[:_ID_SHOWN]}…"


def _told(run: Run, shown: dict[str, Any], samples: Sequence[Sample], now: int) -> RunTold:
    moved = shown["moved_in"] + shown["moved_back"]
    return RunTold(
        run=shown,
        course=course(run.started_at, run.ended_at or now, moved, samples),
        throttling=throttling(samples),
    )


def _line(line: Line) -> dict[str, Any]:
    told = line.told()
    detail = told["detail"]
    if isinstance(detail, dict) and "id" in detail:
        told["detail"] = {**detail, "id": cut(detail["id"])}
    return {name: told[name] for name in ("seq", "at", "who", "what", "run", "detail", "hash")}


def _step(step: Step) -> dict[str, Any]:
    try:
        facts = msgspec.json.decode(step.facts)
    except msgspec.DecodeError:
        facts = {}
    return {**msgspec.to_builtins(step), "facts": facts if isinstance(facts, dict) else {}}


def _milliseconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else round(microseconds / 1000, 2)
