"""Histories of stores that are at fault: each is found, and named."""

from __future__ import annotations

import pytest

from tests.linearizability import Call, Operation, Rules, check
from tests.linearizability.stories import said

RULES = [Rules(), Rules(dirty_reads=True, repeated_ends=True)]
CREATED = said(Call.create({"a": 1}), 0, 1, data={"a": 1}, revision="r1")


def rejected(history: list[Operation], kind: str, *, at: int = -1) -> None:
    """The violation is found by every set of rules, at this call, and is of this kind."""
    for rules in RULES:
        violation = check(history, rules)
        assert violation is not None
        assert violation.kind == kind, str(violation)
        assert violation.operation is history[at], str(violation)


def test_a_write_that_was_acknowledged_is_gone() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
    ]

    rejected(history, "lost")


def test_a_blind_write_is_gone_without_any_revision_told() -> None:
    history = [
        said(Call.create({"a": 1}), 0, 1),
        said(Call.update({"b": 2}), 2, 3),
        said(Call.get(), 4, 5, data={"a": 1}),
    ]

    rejected(history, "lost")


def test_a_session_that_was_acknowledged_is_gone() -> None:
    rejected([CREATED, said(Call.get(), 2, 3, "absent")], "lost")
    rejected([CREATED, said(Call.update({"b": 1}), 2, 3, "absent")], "lost")
    rejected([CREATED, said(Call.delete(), 2, 3, "absent")], "lost")


def test_a_read_is_stale() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.get(), 6, 7, data={"a": 1, "b": 2}, revision="r2"),
    ]

    rejected(history, "stale", at=2)


def test_two_readers_see_a_running_write_come_and_go() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 9, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 3, 4, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 5, 6, data={"a": 1}, revision="r1"),
    ]

    violation = check(history)

    assert violation is not None
    assert violation.operation is history[3]
    assert check(history, Rules(dirty_reads=True)) is None


def test_a_stale_read_is_stale_even_where_changes_may_be_seen_early() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "unknown"),
        said(Call.update({"c": 3}), 4, 5, data={"a": 1, "c": 3}, revision="r3"),
        said(Call.get(), 6, 7, data={"a": 1, "b": 2}, revision="r2"),
    ]

    rejected(history, "lost")


@pytest.mark.parametrize(
    "answer",
    [
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.update({"b": 1}), 4, 5, data={"a": 1, "b": 1}, revision="r2"),
        said(Call.update({"b": 1}), 4, 5),
        said(Call.touch(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.update({"b": 1}, expected_revision="r9"), 4, 5, "conflicted", revision="r1"),
        said(Call.create({"b": 1}), 4, 5, data={"b": 1}, revision="r2"),
    ],
    ids=lambda answer: f"{answer.call.kind} {answer.outcome}",
)
def test_an_ended_session_is_back(answer: Operation) -> None:
    rejected([CREATED, said(Call.delete(), 2, 3, "ended"), answer], "resurrected")


def test_a_session_is_back_that_somebody_found_absent_while_its_delete_was_never_answered() -> None:
    history = [
        CREATED,
        said(Call.delete(), 2, None),
        said(Call.get(), 3, 4, "absent"),
        said(Call.get(), 5, 6, data={"a": 1}, revision="r1"),
    ]

    rejected(history, "resurrected")


def test_an_expired_session_is_back() -> None:
    history = [
        said(Call.create({"a": 1}, ttl=1), 0, 0.1, data={"a": 1}, revision="r1"),
        said(Call.get(), 2, 3, "absent"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
    ]

    rejected(history, "resurrected")


def test_a_session_expires_before_its_time() -> None:
    history = [
        said(Call.create({"a": 1}, ttl=10), 0, 1, data={"a": 1}, revision="r1"),
        said(Call.update({"b": 1}), 5, 6, data={"a": 1, "b": 1}, revision="r2"),
        said(Call.get(), 12, 13, "absent"),
    ]

    rejected(history, "lost")


def test_two_deletes_end_one_session() -> None:
    history = [CREATED, said(Call.delete(), 2, 3, "ended"), said(Call.delete(), 4, 5, "ended")]

    violation = check(history)

    assert violation is not None
    assert violation.kind == "resurrected"
    assert check(history, Rules(repeated_ends=True)) is None


def test_a_merge_has_overwritten_another_attribute() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 5, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.update({"c": 3}), 3, 6, data={"a": 1, "c": 3}, revision="r3"),
    ]

    rejected(history, "lost")


def test_a_merge_has_overwritten_another_attribute_and_only_a_later_read_tells() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 5, revision="r2"),
        said(Call.update({"c": 3}), 3, 6, revision="r3"),
        said(Call.get(), 7, 8, data={"a": 1, "c": 3}, revision="r3"),
    ]

    rejected(history, "lost")


def test_a_removed_attribute_is_back() -> None:
    history = [
        CREATED,
        said(Call.update({}, remove=["a"]), 2, 3, data={}, revision="r2"),
        said(Call.update({"b": 1}), 4, 5, data={"a": 1, "b": 1}, revision="r3"),
    ]

    rejected(history, "lost")


def test_a_write_appears_that_was_refused() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "refused"),
        said(Call.get(), 4, 5, data={"a": 1, "b": 2}, revision="r2"),
    ]

    rejected(history, "phantom")


def test_a_refused_delete_has_ended_the_session() -> None:
    rejected([CREATED, said(Call.delete(), 2, 3, "refused"), said(Call.get(), 4, 5, "absent")], "lost")


def test_a_refused_create_appears() -> None:
    refused = said(Call.create({"a": 1}), 0, 1, "refused")

    rejected([refused, said(Call.get(), 2, 3, data={"a": 1}, revision="r1")], "phantom")
    rejected([refused, said(Call.create({"b": 1}), 2, 3, "exists")], "phantom")


def test_an_unknown_write_takes_effect_twice() -> None:
    history = [
        CREATED,
        said(Call.replace({"b": 2}), 2, 3, "unknown"),
        said(Call.get(), 4, 5, data={"b": 2}, revision="r2"),
        said(Call.replace({"c": 3}), 6, 7, data={"c": 3}, revision="r3"),
        said(Call.get(), 8, 9, data={"b": 2}, revision="r4"),
    ]

    rejected(history, "lost")


def test_a_revision_comes_back_with_the_value_that_it_had() -> None:
    history = [
        CREATED,
        said(Call.replace({"a": 2}), 2, 3, data={"a": 2}, revision="r2"),
        said(Call.replace({"a": 1}), 4, 5, data={"a": 1}, revision="r3"),
        said(Call.get(), 6, 7, data={"a": 1}, revision="r1"),
    ]

    rejected(history, "lost")


def test_an_expected_revision_is_let_through_that_is_not_there_any_more() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.replace({"c": 3}, expected_revision="r1"), 4, 5, data={"c": 3}, revision="r3"),
    ]

    assert check(history) is not None


def test_an_expected_revision_conflicts_with_itself() -> None:
    assert check([CREATED, said(Call.delete(expected_revision="r1"), 2, 3, "conflicted")]) is not None
    assert check([CREATED, said(Call.delete(expected_revision="r1"), 2, 3, "conflicted", revision="r1")]) is not None


def test_a_revision_is_seen_before_the_change_that_drew_it_has_begun() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "unknown"),
        said(Call.get(), 4, 5, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.update({"c": 3}), 6, 7, data={"a": 1, "b": 2, "c": 3}, revision="r2"),
    ]

    assert check(history) is not None
    assert check(history, Rules(dirty_reads=True)) is not None


def test_the_story_names_the_answer_and_what_the_session_could_have_been() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.update({"c": 3}), 2.5, 9, "unknown"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.get(), 6, 7, data={"a": 1, "b": 2, "c": 3}, revision="r3"),
    ]

    violation = check(history)

    assert violation is not None
    assert [dict(state.data) for state in violation.possible] == [{"a": b"1", "b": b"2"}]
    assert list(violation.prefix) == history[:4]
    assert str(violation).splitlines() == [
        "session s: stale. No order of its first 3 answers explains the last one:",
        '  get -> answered {"a":1} revision r1',
        "when, by all other answers, the session could only have been",
        '  {"a": 1, "b": 2} revision r2',
        "the last 4 of 4 calls, in ms from the first",
        '       0.000 -   1000.000  create {"a":1} -> answered {"a":1} revision r1',
        '    2000.000 -   3000.000  update {"b":2} -> answered {"a":1,"b":2} revision r2',
        '    2500.000 -        ...  update {"c":3} -> no answer yet',
        '    4000.000 -   5000.000  get -> answered {"a":1} revision r1  <== this answer',
    ]


def test_a_revision_changes_by_itself() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "unknown"),
        said(Call.get(), 4, 5, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 6, 7, data={"a": 1, "b": 2}, revision="r3"),
    ]

    for rules in RULES:
        assert check(history, rules) is not None


def test_an_overwritten_value_is_read() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.update({"b": 3}), 4, 5, data={"a": 1, "b": 3}, revision="r3"),
        said(Call.get(), 6, 7, data={"a": 1, "b": 2}, revision="r2"),
    ]

    rejected(history, "lost")


def test_the_answer_is_blamed_that_cannot_be_explained_and_none_before_it() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}, expected_revision="r1"), 2, 9, "conflicted"),
        said(Call.get(), 3, 4, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 5, 6, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 10, 11, data={"a": 1, "b": 2}, revision="r2"),
    ]

    violation = check(history)

    assert violation is not None
    assert violation.operation is history[1]


def test_two_changes_draw_one_revision() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.update({"c": 3}), 4, 5, data={"a": 1, "b": 2, "c": 3}, revision="r1"),
        said(Call.get(), 6, 7, data={"a": 1, "b": 2, "c": 3}, revision="r1"),
    ]

    rejected(history, "impossible", at=2)
