"""What is recorded of a call, and how errors are told apart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from session_ops.errors import (
    CorruptSessionError,
    InvalidSessionError,
    OutcomeUnknownError,
    OverloadedError,
    RevisionConflictError,
    ServiceRefusedError,
    SessionExistsError,
    SessionNotFoundError,
    SessionTooLargeError,
    StoreUnavailableError,
)
from session_ops.records import NewSession
from tests.linearizability import Call, History, Operation, Recorded, noted_errors
from tests.unit.fake_repository import FakeRepository

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.linearizability.history import Outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OutcomeUnknownError("redis", "broken"), "unknown"),
        (asyncio.CancelledError(), "unknown"),
        (TimeoutError(), "unknown"),
        (ZeroDivisionError(), "unknown"),
        (KeyboardInterrupt(), "unknown"),
        (StoreUnavailableError("redis", "down"), "refused"),
        (OverloadedError("redis", "queue"), "refused"),
        (InvalidSessionError("bad"), "refused"),
        (SessionTooLargeError("big"), "refused"),
        (CorruptSessionError("odd"), "refused"),
        (ServiceRefusedError("token"), "refused"),
        (SessionNotFoundError("none"), "absent"),
        (RevisionConflictError("s", "r2"), "conflicted"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_error_says_what_happened(error: BaseException, outcome: Outcome) -> None:
    operation = History().begin(Call.update({"a": 1}, expected_revision="r1"), session_id="s")

    with pytest.raises(type(error)), noted_errors(operation):
        raise error

    assert operation.outcome == outcome
    assert operation.finished is not None
    assert operation.revision == ("r2" if outcome == "conflicted" else None)


def test_a_create_whose_id_is_in_use_says_so() -> None:
    operation = History().begin(Call.create({}), session_id="s")

    with pytest.raises(SessionExistsError), noted_errors(operation):
        raise SessionExistsError("s")

    assert operation.outcome == "exists"


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (Call.get(), "ended"),
        (Call.get(), "exists"),
        (Call.create({}), "absent"),
        (Call.delete(), "answered"),
        (Call.touch(), "conflicted"),
        (Call.update({}), "conflicted"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_an_answer_that_such_a_call_cannot_have_is_refused(call: Call, answer: str) -> None:
    operation = History().begin(call, session_id="s")

    with pytest.raises(ValueError, match=r"answered|conflict"):
        getattr(operation, answer)()

    assert operation.outcome is None


def test_a_second_answer_is_refused() -> None:
    operation = History().begin(Call.get(), session_id="s")
    operation.absent()

    with pytest.raises(ValueError, match="already"):
        operation.answered(data={})


def test_every_call_of_a_repository_is_recorded_with_its_answer() -> None:
    history = History()

    async def calls() -> list[Any]:
        repository = Recorded(FakeRepository(), history, by="app1")
        session = await repository.create(NewSession(user_id="ann", data={"a": 1}))
        made: list[Awaitable[Any]] = [
            repository.get(session.id),
            repository.update(session.id, changes={"b": 2}, remove=["a"]),
            repository.change(session.id, changes={"c": 3}),
            repository.touch(session.id),
            repository.replace(session.id, data={"d": 4}),
            repository.delete(session.id),
            repository.delete(session.id),
            repository.get(session.id),
        ]
        return [session, *[await call for call in made]]

    answers = asyncio.run(calls())

    recorded = history.operations(history.sessions()[0])
    assert [(one.call.kind, one.outcome) for one in recorded] == [
        ("create", "answered"),
        ("get", "answered"),
        ("update", "answered"),
        ("update", "answered"),
        ("touch", "answered"),
        ("replace", "answered"),
        ("delete", "ended"),
        ("delete", "absent"),
        ("get", "absent"),
    ]
    assert recorded[2].call == Call.update({"b": 2}, remove=["a"])
    assert recorded[2].data == answers[2].data == {"b": 2}
    assert [one.revision for one in recorded[:6]] == [answer.revision for answer in answers[:6]]
    assert recorded[3].data is None
    assert all(one.by == "app1" and one.finished is not None and one.started < one.finished for one in recorded)


def test_a_history_goes_through_json() -> None:
    history = History()
    history.begin(Call.update({"a": [1, None]}, remove=["b"]), session_id="s", by="app1").answered(
        data={"a": [1, None]}
    )
    history.begin(Call.create({}, ttl=3.0))
    history.begin(Call.delete(expected_revision="r1"), session_id="t").conflicted(revision="r2")

    lines = [msgspec.json.encode(one) for one in reversed(history.operations())]
    again = History.of(msgspec.json.decode(line, type=Operation) for line in lines)

    assert again.operations() == history.operations()
    assert again.sessions() == ["s", "t"]
