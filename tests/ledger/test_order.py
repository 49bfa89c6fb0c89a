"""What has an order and what has none; each history by hand, its times in seconds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ledger.linearizability import Call, Operation, Rules, UndecidedError, check


def done(call: Call, started: float, finished: float, outcome: Any = "answered", data: Any = None) -> Operation:
    return Operation("s", "host", call, started, finished, outcome, data)


def unknown(call: Call, started: float) -> Operation:
    return Operation("s", "host", call, started, started + 0.1, "unknown")


BORN = done(Call.create({"a": 1}), 0, 1)


def kind(*operations: Operation, rules: Rules | None = None) -> str | None:
    violation = check([BORN, *operations], rules or Rules())
    return None if violation is None else violation.kind


def test_a_write_that_is_read_has_an_order() -> None:
    assert kind(done(Call.update({"b": 2}), 2, 3), done(Call.get(), 4, 5, data={"a": 1, "b": 2})) is None


def test_a_write_that_is_never_read_again_is_lost() -> None:
    assert kind(done(Call.update({"b": 2}), 2, 3), done(Call.get(), 4, 5, data={"a": 1})) == "lost"


def test_an_old_value_before_the_new_one_is_stale() -> None:
    reads = [done(Call.get(), 4, 5, data={"a": 1}), done(Call.get(), 6, 7, data={"a": 2})]
    assert kind(done(Call.replace({"a": 2}), 2, 3), *reads) == "stale"


def test_a_read_beside_a_write_may_show_either() -> None:
    write = done(Call.replace({"a": 2}), 2, 5)
    for seen in (1, 2):
        last = done(Call.get(), 6, 7, data={"a": 2})
        assert kind(write, done(Call.get(), 3, 4, data={"a": seen}), last) is None


def test_two_reads_beside_a_write_must_not_go_back() -> None:
    reads = [done(Call.get(), 3, 4, data={"a": 2}), done(Call.get(), 5, 6, data={"a": 1})]
    assert kind(done(Call.replace({"a": 2}), 2, 9), *reads) is not None


def test_a_session_is_resurrected_when_it_shows_after_its_end() -> None:
    assert kind(done(Call.delete(), 2, 3, "ended"), done(Call.get(), 4, 5, data={"a": 1})) == "resurrected"
    assert kind(done(Call.delete(), 2, 3, "ended"), done(Call.get(), 4, 5, "absent")) is None


def test_an_unknown_change_takes_effect_late_or_never_and_once() -> None:
    late = unknown(Call.update({"a": 2}), 2)
    old, new = (done(Call.get(), 10 + at, 11 + at, data={"a": value}) for at, value in ((0, 1), (2, 2)))
    assert kind(late, old) is None
    assert kind(late, old, new) is None
    back = done(Call.replace({"a": 3}), 14, 15)
    again = done(Call.get(), 16, 17, data={"a": 2})
    assert kind(late, old, new, back, again) is not None


def test_a_session_ends_once_unless_the_rules_say_otherwise() -> None:
    ends = [done(Call.delete(), 2, 3, "ended"), done(Call.delete(), 4, 5, "ended")]
    assert kind(*ends) is not None
    assert kind(*ends, rules=Rules(repeated_ends=True)) is None


def test_a_merge_leaves_the_other_attributes() -> None:
    merges = [done(Call.update({"b": 2}), 2, 5), done(Call.update({"c": 3}, ["a"]), 3, 6)]
    assert kind(*merges, done(Call.get(), 7, 8, data={"b": 2, "c": 3})) is None
    assert kind(*merges, done(Call.get(), 7, 8, data={"c": 3})) == "lost"


def test_a_search_that_is_given_up_is_no_pass() -> None:
    many = [done(Call.update({"a": number}), 2, 9) for number in range(12)]
    with pytest.raises(UndecidedError):
        check([BORN, *many, done(Call.get(), 10, 11, data={"a": 99})], Rules(), limit=100)
