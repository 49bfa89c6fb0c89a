"""The report as one HTML page: nothing is fetched, no script runs, and every chart has its figures in a table."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from session_ops.migration.markup import Child, element, page
from session_ops.migration.report_charts import Series, chart, clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree.ElementTree import Element

    from session_ops.migration.report import Report, RunTold

STYLE: Final = Path(__file__).with_name("report.css")

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing."""

NOTHING: Final = "-"

OUTCOMES: Final = {
    "moved_in": "moved to Redis",
    "moved_back": "moved back",
    "again": "were there already",
    "expired": "had expired",
    "quarantined": "put aside",
    "scanned": "rows looked at",
}


def html(report: Report) -> str:
    """The page."""
    parts = {
        "state": ("Where it is", _state(report)),
        "steps": ("Steps", _steps(report.steps, {told.run["run_id"] for told in report.runs})),
        "runs": ("Runs of the mover", _runs(report.runs)),
        "quarantine": ("Rows put aside", _quarantine(report)),
        "validation": ("Validation", _validations(report.validations)),
        "audit": ("Who did what", _audit(report.audit)),
    }
    links = [element("li", element("a", title, href=f"#{name}")) for name, (title, _) in parts.items()]
    sections = [
        element("section", element("h2", title, id=name), *children, aria_labelledby=name)
        for name, (title, children) in parts.items()
    ]
    style = element("style")
    style.text = STYLE.read_text(encoding="utf-8")
    head = element(
        "head", element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY), element("title", "Migration report"),
        style,
    )  # fmt: skip
    told = " The legacy store is retired; this is what Redis keeps of the time until then." if report.kept else ""
    made = element("p", "As of ", _time(report.made_at), f", session-ops {report.release}.{told}", class_="faint")
    header = element("header", element("h1", "Migration report"), made,
                     element("nav", element("ul", *links), aria_label="Parts of this page"))  # fmt: skip
    footer = element("footer", element("p", "All times are the legacy store's own clock, in UTC. Ids are cut."))
    return page(element("html", head, element("body", header, element("main", *sections), footer), lang="en"))


def _state(report: Report) -> list[Element]:
    holds = report.intact
    chain = element("span", "the chain holds" if holds else "BROKEN", class_="good" if holds else "bad")
    rows: dict[str, Child] = {
        "Stage": report.stage,
        "Home": report.target,
        "Redis": f"{report.redis}, generation {report.generation}, mode {report.mode}",
        "At work": report.holder or "nobody",
        "Rows put aside": NOTHING if report.kept else f"{sum(report.quarantine.values()):,}",
        "Audit": chain,
    }
    return [_list(rows)]


def _steps(steps: Sequence[dict[str, Any]], told: set[str]) -> list[Element]:
    """`told`: the runs that this page tells of."""
    if not steps:
        return [element("p", "No step was begun yet.")]
    rows = []
    for one in reversed(steps):
        facts, run_id = one["facts"], one["run_id"]
        before, after = _callers(facts.get("before")), _callers(facts.get("after"))
        rows.append([
            one["step"], _state_word(one["state"]), _time(one["began_at"]), one["began_by"],
            _number(None if one["ended_at"] is None else _took((one["ended_at"] - one["began_at"]) / 1000)),
            element("a", run_id, href=f"#run-{run_id}") if run_id in told else run_id or NOTHING,
            one["reason"] or NOTHING, before, after,
        ])  # fmt: skip
    head = ("step", "state", "began", "by", "took", "run", "reason", "callers before", "callers after")
    return [_table("The steps in their order; of callers: errors of requests, and p99", head, rows,
                   long=(6,))]  # fmt: skip


def _callers(measured: object) -> str:
    """What `migrate watch` has measured around a step."""
    if not isinstance(measured, dict) or not isinstance(measured.get("requests"), int):
        return NOTHING
    p99 = measured.get("p99_ms")
    return f"{measured.get('errors', 0)} of {measured['requests']:,}" + (f", {p99} ms" if p99 is not None else "")


def _runs(runs: Sequence[RunTold]) -> list[Element]:
    if not runs:
        return [element("p", "No run yet: nothing has been moved by the mover.")]
    return [_run(told) for told in runs]


def _run(told: RunTold) -> Element:
    one = told.run
    name = f"run-{one['run_id']}"
    moved = one["moved_in"] + one["moved_back"]
    ended = [" Ended ", _time(one["ended_at"]), "."] if one["ended_at"] else [" It goes on."]
    reason = f": {one['reason']}" if one["reason"] else ", paused" if one["paused"] else ""
    parts: list[Child] = [
        element("h3", f"Run {one['run_id']}", id=name),
        element("p", _state_word(one["state"]), reason, f". Begun by {one['started_by']} ", _time(one["started_at"]),
                ".", *ended),
        element("p", f"{one['target']}; pass {one['pass_number']}.", class_="faint"),
        element("p", f"{moved:,} sessions in {_took(one['seconds'])}, {one['per_second']:,} a second."),
        _table("By outcome", ("outcome", "sessions"),
               [[words, _number(f"{one[key]:,}")] for key, words in OUTCOMES.items()]),
    ]  # fmt: skip
    if one["movers"]:
        rows = [
            [each["mover"], "live" if each["live"] else "dead", _number(each["claimed"]), each["throttle"] or NOTHING]
            for each in one["movers"]
        ]
        parts.append(_table("Movers at work", ("mover", "state", "in flight", "gives way because"), rows, long=(3,)))
    parts += _charts(name, told) if told.course else [element("p", "There is no sample of its course.")]
    if told.throttling:
        rows = [[each.reason, _number(_took(each.seconds)), each.last] for each in told.throttling]
        parts.append(_table("Why it gave way; seconds of all movers together", ("reason", "time", "last said"), rows,
                            long=(0, 2)))  # fmt: skip
    elif told.course:
        parts.append(element("p", "It never gave way."))
    return element("article", *parts, aria_labelledby=name)


def _charts(name: str, told: RunTold) -> list[Element]:
    points = told.course
    seconds = [point.seconds for point in points]
    span, fastest = clock(round(seconds[-1])), max(point.rate for point in points)
    shaded = [point.throttled for point in points]
    progress = chart(
        f"{name}-progress", "Progress", f"{points[-1].moved:,} sessions moved in {span}.", seconds,
        [Series("moved", [point.moved for point in points], "first")], filled=True,
    )  # fmt: skip
    rate = chart(
        f"{name}-rate", "Rate", f"At most {fastest:,.0f} sessions a second; shaded where it gave way.", seconds,
        [Series("rate", [point.rate for point in points], "first")], shaded=shaded,
    )  # fmt: skip
    lines = [
        Series("Redis", [point.redis_ms for point in points], "first"),
        Series("legacy store", [point.legacy_ms for point in points], "second"),
        Series("service p99", [point.p99_ms for point in points], "third"),
    ]
    lines = [line for line in lines if any(value is not None for value in line.values)]
    worst = [f"{line.name} {max(value for value in line.values if value is not None):g} ms at worst" for line in lines]
    latency = chart(f"{name}-latency", "Latency", "; ".join(worst) + ".", seconds, lines, shaded=shaded)
    keys: list[Child] = []
    for line in lines:
        keys += [element("span", class_=f"key {line.style}", aria_hidden="true"), line.name]
    given_way: list[Child] = []
    if any(shaded):
        given_way = [element("span", class_="key shaded", aria_hidden="true"), "gave way"]
    figures = element(
        "div", element("figure", element("figcaption", "Progress, sessions moved"), progress),
        element("figure", element("figcaption", "Rate, sessions a second", *given_way), rate),
        element("figure", element("figcaption", "Latency, ms", *keys), latency), class_="charts",
    )  # fmt: skip
    rows = [
        [_number(clock(round(point.seconds))), _number(f"{point.moved:,}"), _number(f"{point.rate:,}"),
         *(_number(value) for value in (point.redis_ms, point.legacy_ms, point.p99_ms)),
         "yes" if point.throttled else "no"]
        for point in points
    ]  # fmt: skip
    head = ("until", "moved", "a second", "Redis ms", "legacy ms", "p99 ms", "gave way")
    figures_in_words = element("details", element("summary", "The figures of these charts"),
                               _table(f"Course of {name.replace('-', ' ')}", head, rows))  # fmt: skip
    return [figures, figures_in_words]


def _quarantine(report: Report) -> list[Element]:
    if not report.quarantine:
        return [element("p", "Not known any more." if report.kept else "None.")]
    counted: list[list[Child]] = [[reason, _number(f"{count:,}")] for reason, count in report.quarantine.items()]
    rows: list[list[Child]] = [
        [one["id"], one["reason"], _number(f"{one['size']:,}"), one["sha256"][:16], _time(one["at"])]
        for one in report.quarantined
    ]
    return [
        _table("By reason", ("reason", "rows"), counted, long=(0,)),
        _table(f"The first {len(rows)} by id; `session-ops migrate quarantine list` has all of them",
               ("id", "reason", "bytes", "SHA-256 of the data", "put aside"), rows, long=(1,)),
    ]  # fmt: skip


def _validations(validations: Sequence[dict[str, Any]]) -> list[Element]:
    if not validations:
        return [element("p", "None was made yet.")]
    rows = []
    for one in validations:
        told = one["detail"] if isinstance(one["detail"], dict) else {}
        kinds = told.get("mismatches") or {}
        found = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) if isinstance(kinds, dict) else kinds
        verdict = element("span", found or "they agree", class_="bad" if found else "good")
        figures = [_number(told.get(name)) for name in ("rows", "records", "lag", "repaired")]
        rows.append(
            [_time(one["at"]), one["who"], told.get("way", NOTHING), told.get("state", NOTHING), *figures, verdict]
        )
    head = ("when", "who", "way", "state", "rows", "records", "lag", "repaired", "verdict")
    return [_table("The last one first", head, rows, long=(8,))]


def _audit(audit: dict[str, Any]) -> list[Element]:
    head = audit["head"]
    if audit["broken"] is None:
        state = element("span", "The chain holds", class_="good")
        said = element("p", state, f": {audit['lines']:,} lines, none was changed, removed or put in between.")
    else:
        state = element("span", f"The chain is BROKEN at line {audit['broken']}", class_="bad")
        said = element("p", state, f": {audit['reason']}; {audit['lines']:,} lines.")
    kept = element("p", f"Head {head['seq']}:{head['hash']}", class_="faint")
    rows = [
        [_number(one["seq"]), _time(one["at"]), one["who"], one["what"], one["run"] or NOTHING, _detail(one["detail"])]
        for one in audit["shown"]
    ]
    if not rows:
        return [said, kept]
    title = f"The last {len(rows):,} lines, the last one first"
    return [said, kept, _table(title, ("line", "when", "who", "what", "run", "detail"), rows, long=(5,))]


def _detail(detail: Any) -> str:
    if not isinstance(detail, dict):
        return str(detail)
    told = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in detail.values())
    return ", ".join(f"{name} {value}" for name, value in zip(detail, told, strict=True))


def _list(rows: dict[str, Child]) -> Element:
    made = element("dl")
    for name, value in rows.items():
        made.append(element("dt", name))
        made.append(element("dd", value))
    return made


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[Child]], *, long: Sequence[int] = ()) -> Element:
    """A table that scrolls by itself where it is too wide. `long`: columns of words that may wrap."""
    body, numbers = element("tbody"), set()
    for row in rows:
        line = element("tr")
        for number, value in enumerate(row):
            if getattr(value, "tag", None) == "td":
                line.append(value)  # type: ignore[arg-type]
                numbers.add(number)
            else:
                line.append(element("td", value, class_="long" if number in long else "word"))
        body.append(line)
    heads = element("tr")
    for number, name in enumerate(head):
        heads.append(element("th", name, scope="col", class_="number" if number in numbers else None))
    table = element("table", element("caption", title), element("thead", heads), body)
    return element("div", table, class_="wide", role="group", aria_label=title, tabindex="0")


def _number(value: object) -> Element:
    return element("td", NOTHING if value is None else str(value), class_="number")


def _state_word(state: str) -> Element:
    good = {"reached": "good", "done": "good", "stopped": "bad"}.get(state)
    return element("span", state, class_=good)


def _time(at: object) -> Child:
    if not isinstance(at, int):
        return NOTHING
    try:
        moment = datetime.fromtimestamp(at / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(at)
    return element("time", moment.strftime("%Y-%m-%d %H:%M:%S"), datetime=moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(round(seconds))
