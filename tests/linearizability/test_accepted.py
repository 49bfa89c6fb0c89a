"""Histories that look odd and are right: nothing may be found in them."""

from __future__ import annotations

from tests.linearizability import Call, Rules, check
from tests.linearizability.stories import said

CREATED = said(Call.create({"a": 1}), 0, 1, data={"a": 1}, revision="r1")
DIRTY = Rules(dirty_reads=True)


def test_no_calls_at_all() -> None:
    assert check([]) is None


def test_a_session_that_nobody_has_created() -> None:
    history = [
        said(Call.get(), 0, 1, "absent"),
        said(Call.update({"a": 1}), 2, 3, "absent"),
        said(Call.delete(), 4, 5, "absent"),
    ]

    assert check(history) is None


def test_readers_of_a_running_write_may_see_it_or_not() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 9, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.get(), 3, 4, data={"a": 1}, revision="r1"),
        said(Call.get(), 5, 6, data={"a": 1, "b": 2}, revision="r2"),
    ]

    assert check(history) is None


def test_an_unknown_write_takes_effect_long_after_others() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "unknown"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.update({"c": 3}), 6, 7, data={"a": 1, "c": 3}, revision="r3"),
        said(Call.get(), 8, 9, data={"a": 1, "b": 2, "c": 3}, revision="r2"),
    ]

    assert check(history) is None


def test_an_unknown_write_never_takes_effect() -> None:
    history = [
        CREATED,
        said(Call.replace({"b": 2}), 2, 3, "unknown"),
        said(Call.delete(), 2, None),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
    ]

    assert check(history) is None


def test_an_unknown_create_appears() -> None:
    history = [
        said(Call.create({"a": 1}), 0, 1, "unknown"),
        said(Call.get(), 2, 3, "absent"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.create({"a": 2}), 6, 7, "exists"),
    ]

    assert check(history) is None


def test_an_unknown_delete_ends_the_session_later() -> None:
    history = [
        CREATED,
        said(Call.delete(), 2, 3, "unknown"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.delete(), 6, 7, "absent"),
        said(Call.create({"a": 2}), 8, 9, "exists"),
    ]

    assert check(history) is None


def test_a_refused_call_says_nothing_and_does_nothing() -> None:
    history = [
        CREATED,
        said(Call.get(), 2, 3, "refused"),
        said(Call.replace({"b": 1}), 2, 3, "refused"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
    ]

    assert check(history) is None


def test_of_two_writers_with_one_revision_one_wins() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}, expected_revision="r1"), 2, 5, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.update({"c": 3}, expected_revision="r1"), 3, 6, "conflicted", revision="r2"),
        said(Call.delete(expected_revision="r2"), 7, 8, "ended"),
    ]

    assert check(history) is None


def test_an_expected_revision_names_the_one_that_an_unknown_write_drew() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "unknown"),
        said(Call.update({"c": 3}, expected_revision="r2"), 4, 5, data={"a": 1, "b": 2, "c": 3}, revision="r3"),
    ]

    assert check(history) is None


def test_a_touch_changes_no_revision_and_lengthens_a_life() -> None:
    history = [
        said(Call.create({"a": 1}, ttl=10), 0, 1, data={"a": 1}, revision="r1"),
        said(Call.touch(), 5, 6, data={"a": 1}, revision="r1"),
        said(Call.get(), 14, 14.5, data={"a": 1}, revision="r1"),
        said(Call.get(), 14, 16, "absent"),
        said(Call.touch(), 17, 18, "absent"),
    ]

    assert check(history) is None


def test_what_is_both_set_and_removed_ends_removed() -> None:
    history = [
        CREATED,
        said(Call.update({"a": 2, "b": 1}, remove=["a", "z"]), 2, 3, data={"b": 1}, revision="r2"),
        said(Call.replace({}), 4, 5, data={}, revision="r3"),
    ]

    assert check(history) is None


def test_changes_that_are_seen_early_may_vanish_and_come_back_where_that_is_allowed() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "unknown"),
        said(Call.update({"c": 3}), 2, 3, "unknown"),
        said(Call.get(), 4, 5, data={"a": 1, "b": 2, "c": 3}, revision="r3"),
        said(Call.delete(expected_revision="r1"), 4, 5, "conflicted", revision="r3"),
        said(Call.get(), 6, 7, data={"a": 1}, revision="r1"),
        said(Call.get(), 8, 9, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.update({"d": 4}), 10, 11, data={"a": 1, "b": 2, "d": 4}, revision="r4"),
    ]

    assert check(history, DIRTY) is None
    violation = check(history)
    assert violation is not None
    assert violation.operation is history[5]


def test_the_number_of_calls_at_once_does_not_matter_where_their_values_tell_them_apart() -> None:
    crowd = [said(Call.update({f"k{number}": number}), 2, 3, "unknown") for number in range(30)]
    seen = {f"k{number}": number for number in range(0, 30, 2)}
    history = [
        CREATED,
        *crowd,
        said(Call.get(), 4, 5, data={"a": 1}, revision="r1"),
        said(Call.get(), 6, 7, data={"a": 1, **seen}, revision="r2"),
        said(Call.update({"z": 1}), 8, 9, data={"a": 1, **seen, "z": 1}, revision="r3"),
    ]

    assert check(history, limit=2000) is None


def test_an_unknown_update_of_nothing_draws_a_revision() -> None:
    history = [
        CREATED,
        said(Call.update({}), 2, 3, "unknown"),
        said(Call.get(), 4, 5, data={"a": 1}, revision="r2"),
    ]

    assert check(history) is None


def test_an_unknown_write_of_which_only_a_conflict_tells() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, "unknown"),
        said(Call.update({"c": 3}, expected_revision="r1"), 4, 5, "conflicted", revision="r2"),
        said(Call.replace({"d": 4}), 6, 7, data={"d": 4}, revision="r3"),
    ]

    assert check(history) is None


def test_a_repeated_end_does_not_need_the_revision_that_it_expected() -> None:
    history = [
        CREATED,
        said(Call.update({"b": 2}), 2, 3, data={"a": 1, "b": 2}, revision="r2"),
        said(Call.delete(), 4, 5, "ended"),
        said(Call.delete(expected_revision="r1"), 6, 7, "ended"),
    ]

    assert check(history, Rules(repeated_ends=True)) is None
