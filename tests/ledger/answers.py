"""What an answer of the API says about the change that was asked for: done, absent, nothing happened, or unknown."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.ledger.wire import Host, NoAnswerError, NotSentError

_PROBLEM = "urn:session-ops:problem:"


class Outcome(enum.Enum):
    """What a caller knows after a request."""

    DONE = "done"
    ABSENT = "absent"
    NOTHING = "nothing happened"
    UNKNOWN = "outcome unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request that has ended. Times are seconds of this process' monotonic clock, around sending and reading."""

    outcome: Outcome
    reason: str
    """Why it failed, in one short stable phrase; empty where it did not."""
    body: Any
    started: float
    ended: float

    @property
    def acknowledged(self) -> bool:
        """Whether the service answered for good; that a session is absent is such an answer."""
        return self.outcome in (Outcome.DONE, Outcome.ABSENT)


class _Problem(msgspec.Struct):
    type: str = ""


_encode = msgspec.json.Encoder().encode
_problem = msgspec.json.Decoder(_Problem).decode


async def ask(host: Host, method: str, path: str, body: Any = None, headers: str = "") -> Answer:
    """Send one request once and judge its answer. Never raises for what the service does."""
    content = b"" if body is None else _encode(body)
    started = time.monotonic()
    try:
        reply = await host.request(method, path, content, headers)
    except NotSentError as error:
        return Answer(Outcome.NOTHING, str(error), None, started, time.monotonic())
    except NoAnswerError as error:
        return Answer(Outcome.UNKNOWN, str(error), None, started, time.monotonic())
    ended = time.monotonic()
    outcome, reason = _judge(reply.status, reply.body)
    value = None
    if outcome is Outcome.DONE and reply.body:
        try:
            value = msgspec.json.decode(reply.body)
        except msgspec.DecodeError:
            outcome, reason = Outcome.UNKNOWN, "not JSON"
    return Answer(outcome, reason, value, started, ended)


def _judge(status: int, body: bytes) -> tuple[Outcome, str]:
    if 200 <= status < 300:
        return Outcome.DONE, ""
    try:
        kind = _problem(body).type.removeprefix(_PROBLEM)
    except msgspec.DecodeError:
        kind = ""  # of something between the service and us
    if status == 404 and kind == "session-not-found":
        return Outcome.ABSENT, ""
    if status == 503 and kind == "store-unavailable":
        return Outcome.NOTHING, kind
    if status == 503 and kind == "outcome-unknown":
        return Outcome.UNKNOWN, kind
    # A refusal (4xx) comes before anything is done; any other error promises nothing.
    outcome = Outcome.NOTHING if 400 <= status < 500 else Outcome.UNKNOWN
    return outcome, f"HTTP {status} {kind}".rstrip()
