"""Sessions whose histories were checked and dropped: of each what it must still be, to be read again until the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.ledger.answers import Answer, Outcome
from tests.linearizability import Call, History

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from tests.ledger.sessions import Tracked

READS = 20
"""Reads of one session with changes of unknown outcome, which its short history keeps."""


class Archive:
    """Keeps at most `limit` sessions; one more displaces one that is drawn, so that all ages stay represented."""

    def __init__(self, limit: int, chance: random.Random) -> None:
        self._limit = limit
        self._chance = chance
        self._kept: list[tuple[Tracked, dict[str, Any] | None]] = []

    def __len__(self) -> int:
        """The number of sessions kept."""
        return len(self._kept)

    def __iter__(self) -> Iterator[tuple[Tracked, dict[str, Any] | None]]:
        """Each session with the answer it gave last: None where it had ended."""
        return iter(self._kept)

    def keep(self, tracked: Tracked, last: Answer, *, dirty: bool) -> None:
        """Take a session that was checked, and forget how it came to be as `last` shows it.

        Nothing runs on it any more. What is left is a short history: its value, and the changes that may still come.
        `dirty`: `last` may show a change of unknown outcome that is undone when Redis dies, so its history stays.
        """
        value = last.body if last.outcome is Outcome.DONE else None
        if dirty and tracked.unknown and value is not None:
            tracked.requests = 0
        else:
            begin_anew(tracked, value)
        if len(self._kept) < self._limit:
            self._kept.append((tracked, value))
        else:
            self._kept[self._chance.randrange(self._limit)] = (tracked, value)

    def drawn(self) -> tuple[Tracked, dict[str, Any] | None] | None:
        """A session to look at now, or None."""
        if not self._kept:
            return None
        tracked, value = self._chance.choice(self._kept)
        return None if tracked.running or tracked.requests >= READS else (tracked, value)

    def drop(self, tracked: Tracked) -> None:
        """Something is wrong with it, and has been counted."""
        self._kept = [each for each in self._kept if each[0] is not tracked]


def begin_anew(tracked: Tracked, value: dict[str, Any] | None) -> None:
    """Give the session a history that begins with what it is now: `value` as answered, None where it has ended."""
    tracked.history = history = History()
    tracked.requests = 0
    data, revision = (value["data"], value["revision"]) if value is not None else ({}, None)
    recording = history.begin(Call.create(data), session_id=tracked.id, by="settled")
    recording.answered(data=data, revision=revision)
    if value is None:
        history.begin(Call.delete(), session_id=tracked.id, by="settled").ended()
        tracked.unknown.clear()  # what comes too late finds no session
    for call in tracked.unknown:
        history.begin(call, session_id=tracked.id, by="settled").unknown("from before")


def unchanged(answer: Answer, value: dict[str, Any] | None) -> bool:
    """Whether an acknowledged read shows the session as it was."""
    if value is None or answer.outcome is not Outcome.DONE:
        return value is None and answer.outcome is Outcome.ABSENT
    return bool(answer.body["data"] == value["data"] and answer.body["revision"] == value["revision"])
