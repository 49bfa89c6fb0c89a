"""The sessions that a ledger follows now: users with a few sessions each, what each may be asked, and its history."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from tests.linearizability import Call, History

NAMES = ("a", "b", "c", "d", "e")
"""The attributes that are written; few, so that requests meet on them."""

RUNNING_LIMIT = 3
"""Requests to one session at once: enough for every kind of collision, few enough for a quick check."""

UNKNOWN_LIMIT = 6
"""Changes of one session with an unknown outcome; each may take effect at any later time, which a check has to try."""

REQUEST_LIMIT = 1000
"""Requests to one session, answered or not: it bounds the memory that an outage without end takes."""

SESSIONS_OF_A_USER = 3


class Stage(enum.Enum):
    """Where a user is in its life."""

    LIVING = "all requests"
    AFTERMATH = "its sessions are ended, and asked for a few more times"
    SETTLING = "read back through every host, then checked and dropped"


@dataclass(eq=False, slots=True)
class Tracked:
    """One session and everything that was answered about it."""

    id: str
    user: User
    history: History
    unknown: list[Call] = field(default_factory=list)
    """The changes whose outcome is unknown."""
    values: int = 0
    running: int = 0
    requests: int = 0
    refused_by: str | None = None
    """The host that has not acknowledged the last request."""

    @property
    def free(self) -> bool:
        """Whether one more request may be sent to it."""
        return self.running < RUNNING_LIMIT and self.requests < REQUEST_LIMIT

    @property
    def changeable(self) -> bool:
        """Whether one more change may be sent; those that run may all turn out to be unknown."""
        return self.free and len(self.unknown) + self.running < UNKNOWN_LIMIT

    def attributes(self, chance: random.Random, *, removing: bool = False) -> dict[str, Any]:
        """One to three attributes with values that no other request to this session has written."""
        given: dict[str, Any] = {}
        for name in chance.sample(NAMES, chance.randint(1, 3)):
            self.values += 1
            given[name] = None if removing and chance.random() < 0.2 else self.values
        return given


@dataclass(frozen=True, slots=True)
class Existing:
    """A user of before the run, whom nobody else uses: all its sessions by id, with the attributes each must have."""

    user_id: str
    sessions: Mapping[str, Mapping[str, Any]]


@dataclass(eq=False, slots=True)
class User:
    """A user with a few sessions, which live and are checked together."""

    id: str
    budget: int
    """Acknowledged requests until the next stage."""
    stage: Stage = Stage.LIVING
    sessions: list[Tracked] = field(default_factory=list)
    running: int = 0
    creating: int = 0

    @property
    def may_create(self) -> bool:
        """Whether it may have one more session."""
        return self.stage is Stage.LIVING and len(self.sessions) + self.creating < SESSIONS_OF_A_USER
