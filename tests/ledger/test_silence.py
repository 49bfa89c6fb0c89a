"""A silence lasts from a request to the next acknowledgement, and percentiles are 2 % off at most."""

from __future__ import annotations

from tests.ledger.answers import Answer, Outcome
from tests.ledger.latency import Latency
from tests.ledger.phases import ONE_SESSION, OVERALL, Phases


def answer(started: float, ended: float, outcome: Outcome = Outcome.DONE) -> Answer:
    return Answer(outcome, "" if outcome is Outcome.DONE else "down", None, started, ended)


def send(phases: Phases, each: Answer, session: object = None) -> None:
    phases.asked(("read",), session, each.started)
    phases.answered(("read",), session, each, changes=False)


def test_a_kind_that_is_asked_for_rarely_is_not_silent_meanwhile() -> None:
    phases = Phases("all", 0)
    send(phases, answer(1, 1.5))
    send(phases, answer(100, 100.25))
    assert phases.whole.silence["read"] == 0.5


def test_failures_prolong_a_silence_until_the_next_acknowledgement() -> None:
    phases = Phases("all", 0)
    send(phases, answer(1, 1.5, Outcome.NOTHING))
    send(phases, answer(2, 2.5, Outcome.UNKNOWN))
    send(phases, answer(3, 3.5))
    send(phases, answer(4, 4.5))
    assert phases.whole.silence["read"] == 2.5
    assert phases.whole.failed == {"down": 2}


def test_one_session_may_be_silent_while_others_are_answered() -> None:
    phases = Phases("all", 0)
    send(phases, answer(1, 1.5, Outcome.NOTHING), "a")
    for second in range(2, 9):
        send(phases, answer(second, second + 0.5), "b")
    send(phases, answer(9, 9.5), "a")
    assert phases.whole.silence[OVERALL] == 1.5
    assert phases.whole.silence[ONE_SESSION] == 8.5


def test_a_silence_that_lasts_at_the_end_counts() -> None:
    phases = Phases("all", 0)
    send(phases, answer(1, 1.5, Outcome.NOTHING))
    phases.mark("fault", 5)
    phases.end(11)
    assert phases.whole.silence[OVERALL] == 10
    assert [phase.silence[OVERALL] for phase in phases.all] == [10, 6]


def test_a_percentile_is_2_percent_off_at_most() -> None:
    latency = Latency()
    assert latency.percentile(99) is None
    for each in range(1, 1001):
        latency.add(each / 1000)
    for percent in (50, 99, 100):
        found = latency.percentile(percent)
        assert found is not None
        assert percent / 100 <= found <= percent / 100 * 1.03
