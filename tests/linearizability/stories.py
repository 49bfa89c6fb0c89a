"""Calls with given times and answers, to tell histories with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.linearizability.history import Operation

if TYPE_CHECKING:
    from tests.linearizability.history import Call, Outcome


def said(
    call: Call,
    started: float,
    finished: float | None,
    outcome: Outcome = "answered",
    *,
    data: dict[str, Any] | None = None,
    revision: str | None = None,
) -> Operation:
    """A call on the session `s` and its answer. `finished` None: still running."""
    return Operation(
        call=call,
        session_id="s",
        started=started,
        finished=finished,
        outcome=None if finished is None else outcome,
        data=data,
        revision=revision,
    )
