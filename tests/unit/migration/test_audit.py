"""The chain of the audit, judged line by line."""

from __future__ import annotations

import pytest

from session_ops.migration.audit import Chain, Head, Line
from session_ops.stores.control_schema import FIRST_HASH, audit_hash


def chain(count: int) -> list[Line]:
    lines: list[Line] = []
    for seq in range(1, count + 1):
        previous = lines[-1].hash if lines else FIRST_HASH
        values = {"seq": seq, "at": 1_000 + seq, "who": "ann@host", "what": "bump", "detail": "{}"}
        lines.append(Line(**values, previous_hash=previous, hash=audit_hash(previous, **values)))  # type: ignore[arg-type]
    return lines


def head_of(lines: list[Line]) -> Head:
    return Head(seq=lines[-1].seq, hash=lines[-1].hash)


def judged(lines: list[Line], head: Head, anchor: Head | None = None) -> tuple[int, str] | None:
    judge = Chain(anchor)
    for line in lines:
        if wrong := judge.judge(line):
            return wrong
    return judge.against(head)


def test_a_whole_chain_holds_also_while_others_append() -> None:
    lines = chain(4)

    assert judged(lines, head_of(lines)) is None
    assert judged(lines[:3], head_of(lines)) is None, "the fourth came after the lines were read"
    assert judged(lines, head_of(lines), anchor=head_of(lines[:2])) is None


@pytest.mark.parametrize(("gone", "first"), [(0, 1), (1, 2), (2, 3)])
def test_a_line_that_was_removed_is_named(gone: int, first: int) -> None:
    lines = chain(4)

    wrong = judged(lines[:gone] + lines[gone + 1 :], head_of(lines))

    assert wrong is not None
    assert (wrong[0], "it is missing" in wrong[1]) == (first, True)


def test_a_head_that_was_set_back_or_given_another_hash_shows() -> None:
    lines = chain(3)

    assert judged(lines, head_of(lines[:2])) == (3, "the head ends with line 2")
    assert judged(lines, Head(seq=3, hash="0" * 64)) == (3, "the head has another hash for it")


def test_a_chain_that_was_computed_anew_shows_only_against_a_hash_that_was_kept() -> None:
    before = chain(3)
    anew: list[Line] = []
    for line in before:
        values = {"seq": line.seq, "at": line.at, "who": "bob@host", "what": line.what, "detail": line.detail}
        previous = anew[-1].hash if anew else FIRST_HASH
        anew.append(Line(**values, previous_hash=previous, hash=audit_hash(previous, **values)))  # type: ignore[arg-type]

    assert judged(anew, head_of(anew)) is None
    wrong = judged(anew, head_of(anew), anchor=head_of(before[:2]))
    assert wrong == (2, "it is another line than the one whose hash was kept")
    cut = judged(before[:1], head_of(before[:1]), anchor=head_of(before[:2]))
    assert cut == (2, "it is missing; line 2 was there when its hash was kept")
