"""The report: a run's course out of its samples, and a page that nothing in it can break out of."""

from __future__ import annotations

from typing import Any

import pytest

from session_ops.migration.report import Point, Report, RunTold, Throttling, course, cut, throttling
from session_ops.migration.report_charts import ceiling, clock, short, ticks
from session_ops.migration.report_page import STYLE, html
from session_ops.migration.samples import Sample
from tests.pages import Page

HOSTILE = "</td></svg><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x00\x1b[2J\u202e&lt;&#60;\ud800 {{7*7}}"


def sample(at: int, moved: int = 0, **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "mover": "ann@app1:7", "at": at, "span": 2_000, "moved_in": moved, "moved_back": 0, "scanned": moved,
        "redis_us": None, "legacy_us": None, "p99_us": None, "share": 100, "reason": None,
    }  # fmt: skip
    return Sample(**(fields | changes))


def run(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "run_id": "0eedf3e881dbf3d2", "state": "done", "reason": None, "target": "100 %", "started_by": "ann@app1:7",
        "started_at": 1_000_000, "ended_at": 1_010_000, "pass_number": 2, "paused": False, "rate": None, "batch": None,
        "scanned": 200, "moved_in": 100, "moved_back": 3, "again": 4, "expired": 5, "quarantined": 6, "seconds": 10.0,
        "per_second": 10.3, "movers": [],
    }  # fmt: skip
    return fields | changes


def report(**changes: Any) -> Report:
    fields: dict[str, Any] = {
        "made_at": 1_764_000_000_000, "release": "1", "stage": "prepared", "target": "every session", "generation": 1,
        "mode": "mirror", "redis": "on", "holder": None, "steps": [], "runs": [], "quarantine": {}, "quarantined": [],
        "validations": [],
        "audit": {"lines": 0, "broken": None, "reason": None, "head": {"seq": 0, "hash": "0" * 64}, "shown": []},
    }  # fmt: skip
    return Report(**(fields | changes))


POINT = Point(seconds=5.0, moved=50, rate=10.0, redis_ms=0.5, legacy_ms=None, p99_ms=20.0, throttled=True)


def full(word: str) -> Report:
    """A report with the same word wherever a store, an operator or an application may have put one."""
    line = {"seq": 1, "at": 1, "who": word, "what": word, "run": word, "detail": {word: word, "x": [word]}, "hash": ""}
    return report(
        stage=word,
        target=word,
        mode=word,
        redis=word,
        holder=word,
        steps=[
            {"number": 1, "step": word, "state": word, "reason": word, "began_at": 1, "began_by": word, "ended_at": 2,
             "run_id": "0eedf3e881dbf3d2", "facts": {"before": {"requests": 7, "errors": word, "p99_ms": word}}},
        ],
        runs=[
            RunTold(
                run=run(state=word, reason=word, target=word, started_by=word,
                        movers=[{"mover": word, "live": True, "claimed": 1, "throttle": word}]),
                course=[POINT],
                throttling=[Throttling(reason=word, seconds=1.0, last=word)],
            ),
        ],
        quarantine={word: 1},
        quarantined=[{"id": word, "reason": word, "sha256": word, "size": 1, "at": 2**70, "run_id": word}],
        validations=[line | {"detail": {"way": word, "state": word, "mismatches": {word: word}, "rows": word}},
                     line | {"detail": word}, line | {"detail": {"mismatches": [word]}}],
        audit={"lines": 1, "broken": 1, "reason": word, "head": {"seq": 1, "hash": word},
               "shown": [line, line | {"detail": word}]},
    )  # fmt: skip


def test_nothing_breaks_out_of_the_page() -> None:
    page = Page(html(full(HOSTILE)))

    assert page.all("script") == []
    assert "<script>alert(1)</script>" in page.text, "it is shown, as text"
    assert "\\u0000\\u001b[2J\\u202e&lt;&#60;\\ud800 {{7*7}}" in page.text
    assert len(page.all("svg")) == 3


def test_an_endless_word_is_cut() -> None:
    assert len(html(full("x" * 100_000))) < 60_000


def test_the_page_fetches_nothing_and_is_read_by_a_screen_reader() -> None:
    text = html(full("word"))
    page = Page(text)

    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    [policy] = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert svg["aria-labelledby"]
        assert svg["aria-describedby"]
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell["scope"] == "col" for cell in page.all("th"))
    assert "prefers-color-scheme: dark" in STYLE.read_text()
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_a_migration_without_a_run_says_so() -> None:
    page = Page(html(report()))

    assert "No run yet: nothing has been moved by the mover." in page.text
    assert "No step was begun yet." in page.text
    assert "The chain holds : 0 lines" in page.text


def test_what_redis_keeps_of_it_is_told_as_that() -> None:
    page = Page(html(report(kept=True, runs=[RunTold(run=run(), course=[], throttling=[])])))

    assert "The legacy store is retired; this is what Redis keeps of the time until then." in page.text
    assert "Rows put aside - Audit" in page.text
    assert "Not known any more." in page.text
    assert "There is no sample of its course." in page.text


def test_a_run_is_told_with_its_figures() -> None:
    throttled = [Throttling(reason="Redis takes N ms", seconds=90.0, last="Redis takes 61 ms")]
    page = Page(html(report(runs=[RunTold(run=run(), course=[POINT, POINT], throttling=throttled)])))

    for words in ("103 sessions in 10.0 s, 10.3 a second", "moved to Redis 100", "moved back 3", "were there already 4",
                  "had expired 5", "put aside 6", "rows looked at 200", "Redis takes N ms 1:30 min Redis takes 61 ms",
                  "Redis 0.5 ms at worst; service p99 20 ms at worst."):  # fmt: skip
        assert words in page.text, words
    assert "legacy store" not in page.text.partition("Latency")[2].partition("</svg>")[0].partition("figures")[0]


def test_a_step_whose_run_is_not_told_any_more_leads_nowhere() -> None:
    step = {"number": 1, "step": "10", "state": "reached", "reason": None, "began_at": 1, "began_by": "ann",
            "ended_at": 2, "run_id": "0eedf3e881dbf3d2", "facts": {}}  # fmt: skip

    assert "10 reached" in Page(html(report(steps=[step]))).text
    told = Page(html(report(steps=[step], runs=[RunTold(run=run(), course=[], throttling=[])])))
    assert {"href": "#run-0eedf3e881dbf3d2"} in told.all("a")


def test_a_broken_chain_is_told_first() -> None:
    audit = report().audit | {"broken": 3, "reason": "it was changed after it was written"}
    page = Page(html(report(audit=audit)))

    assert "Audit BROKEN" in page.text
    assert "The chain is BROKEN at line 3 : it was changed after it was written" in page.text


def test_a_course_adds_up_what_several_movers_did_at_a_time() -> None:
    samples = [
        sample(2_000, 100, redis_us=400), sample(2_000, 50, mover="bob@app2:8", redis_us=900, reason="paused"),
        sample(4_000, 10, legacy_us=1_500),
    ]  # fmt: skip

    points = course(0, 6_000, 200, samples)

    assert [point.seconds for point in points] == [2.0, 4.0, 6.0]
    assert [point.moved for point in points] == [150, 160, 200], "what no sample tells is the end's"
    assert [point.rate for point in points] == [75.0, 5.0, 20.0]
    assert [point.redis_ms for point in points] == [0.9, None, None]
    assert [point.legacy_ms for point in points] == [None, 1.5, None]
    assert [point.throttled for point in points] == [True, False, False]


def test_a_course_of_weeks_has_as_many_points_as_a_reader_can_see() -> None:
    week = 7 * 86_400_000
    samples = [sample(at, 1_000, span=600_000) for at in range(600_000, week, 600_000)]

    points = course(0, week, len(samples) * 1_000, samples)

    assert len(points) == 120
    assert points[-1].moved == len(samples) * 1_000
    assert max(point.rate for point in points) < 2.5


@pytest.mark.parametrize(
    ("started", "ended", "samples"), [(0, 0, [sample(1)]), (5_000, 4_000, [sample(1)]), (0, 10_000, [])]
)
def test_what_has_no_course_has_none(started: int, ended: int, samples: list[Sample]) -> None:
    assert course(started, ended, 7, samples) == []


def test_samples_outside_of_their_run_do_no_harm() -> None:
    assert course(10_000, 12_000, 3, [sample(1, 1), sample(99_000, 2)])[-1].moved == 3


def test_reasons_are_counted_without_their_figures() -> None:
    told = throttling([
        sample(1, reason="Redis takes 61 ms (limit 50), the legacy store takes 120 ms (limit 100)"),
        sample(2, reason="Redis takes 7.5 ms (limit 50)"), sample(3), sample(4, reason="paused"),
    ])  # fmt: skip

    assert [(each.reason, each.seconds) for each in told] == [
        ("Redis takes N ms (limit N)", 4.0), ("the legacy store takes N ms (limit N)", 2.0), ("paused", 2.0),
    ]  # fmt: skip
    assert told[0].last == "Redis takes 7.5 ms (limit 50)"


def test_an_id_is_cut() -> None:
    assert (cut("s1"), cut("0123456789"), cut(None)) == ("s1", "01234567…", "None")


def test_axes_have_round_figures() -> None:
    assert [ceiling(value) for value in (0, 0.03, 1, 1.2, 499, 500, 501)] == [1, 0.05, 1, 2, 500, 500, 1000]
    assert ticks(9.5) == [0, 2, 4, 6, 8]
    assert len(ticks(30 * 86_400)) <= 6
    assert len(ticks(10_000 * 86_400)) <= 6
    assert [short(value) for value in (0, 0.5, 950, 2_500, 10_000, 2e6)] == ["0", "0.5", "950", "2.5k", "10k", "2M"]
    assert [clock(value) for value in (5, 60, 90, 3_600, 5_400)] == ["5 s", "1 min", "1:30 min", "1 h", "1:30 h"]
