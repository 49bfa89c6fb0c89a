"""The requests of a ledger: what is sent, and how the answer goes into the session's history."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from tests.ledger.answers import Answer, Outcome, ask
from tests.ledger.sessions import Tracked, User
from tests.linearizability import Call, History, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.ledger.phases import Phases
    from tests.ledger.wire import Host

Kind = Literal["create", "read", "touch", "list", "merge", "replace", "delete", "revoke"]
CHANGES: frozenset[Kind] = frozenset({"create", "merge", "replace", "delete", "revoke"})


class Calls:
    """Sends requests through hosts, and keeps what is answered: in the histories, and in the phases' figures."""

    def __init__(self, hosts: Sequence[Host], phases: Phases, chance: random.Random) -> None:
        self.hosts = hosts
        self._phases = phases
        self._chance = chance

    async def create(self, user: User, host: Host) -> Tracked | None:
        """One more session for the user, or None. One that was not answered has an id that nobody knows."""
        tracked = Tracked("", user, History())
        given = tracked.attributes(self._chance)
        recording = tracked.history.begin(Call.create(given), by=f"create {host.url}")
        answer = await self._send("create", host, "POST", "/v1/sessions", {"user_id": user.id, "data": given})
        if answer.outcome is not Outcome.DONE:
            return None
        tracked.id = recording.session_id = answer.body["id"]
        recording.answered(data=answer.body["data"], revision=answer.body["revision"])
        return tracked

    async def read(self, tracked: Tracked, host: Host, kind: Literal["read", "touch"] = "read") -> Answer:
        """Read a session, or have its life slide on, which answers it too."""
        call = Call.get() if kind == "read" else Call.touch()
        recording = self._begin(tracked, call, kind, host)
        path = _path(tracked)
        method, path = ("GET", path) if kind == "read" else ("POST", path + "/touch")
        answer = await self._send(kind, host, method, path, session=(tracked, "read"))
        _note(recording, answer)
        return answer

    async def change(self, tracked: Tracked, host: Host, kind: Literal["merge", "replace", "delete"]) -> Answer:
        """Merge single attributes, replace all, or end the session."""
        method, body, headers = "DELETE", None, ""
        call = Call.delete()
        if kind == "merge":
            given = tracked.attributes(self._chance, removing=True)
            removed = [name for name, value in given.items() if value is None]
            call = Call.update({name: value for name, value in given.items() if value is not None}, remove=removed)
            method, body = "PATCH", {"data": given}
            headers = self._chance.choice(("", "prefer: return=minimal\r\n"))
        elif kind == "replace":
            given = tracked.attributes(self._chance)
            call = Call.replace(given)
            method, body = "PUT", {"data": given}
        recording = self._begin(tracked, call, kind, host)
        # A change answers the session as it is at some later instant of the request: those of a tick are made together
        # and read back together. So what it shows is a read of its own.
        shown = self._begin(tracked, Call.get(), kind, host)
        answer = await self._send(kind, host, method, _path(tracked), body, headers, session=(tracked, "change"))
        if answer.outcome is Outcome.UNKNOWN:
            tracked.unknown.append(call)
        if answer.outcome is not Outcome.DONE:
            _note(recording, answer)
        elif kind == "delete":
            recording.ended()
        else:
            recording.answered()
        if answer.body:
            shown.answered(data=answer.body["data"], revision=answer.body["revision"])
        else:
            shown.refused("not shown")
        return answer

    async def list_sessions(self, user: User, host: Host) -> Answer:
        """List the user's sessions: a read of every one of them."""
        recordings = [(each, self._begin(each, Call.get(), "list", host)) for each in user.sessions]
        answer = await self._send("list", host, "GET", f"/v1/sessions?user_id={quote(user.id)}&limit=1000")
        listed = {each["id"]: each for each in answer.body["sessions"]} if answer.outcome is Outcome.DONE else {}
        for tracked, recording in recordings:
            if answer.outcome is not Outcome.DONE:
                recording.refused(answer.reason)
            elif tracked.id in listed:
                recording.answered(data=listed[tracked.id]["data"], revision=listed[tracked.id]["revision"])
            else:
                recording.absent()
        return answer

    async def revoke(self, user: User, host: Host) -> Answer:
        """End all sessions of the user; none of them may be created meanwhile."""
        call = Call.delete()
        recordings = [(each, self._begin(each, call, "revoke", host)) for each in user.sessions]
        answer = await self._send("revoke", host, "DELETE", f"/v1/users/{quote(user.id)}/sessions")
        sent = answer.reason not in {"connection refused", "connection timed out", "host unreachable"}
        for tracked, recording in recordings:
            if answer.outcome is Outcome.DONE:
                # Which of them it ended, and which had ended before, it does not say: only that now there is none.
                recording.unknown("one of several")
                self._begin(tracked, Call.get(), "revoke", host).absent()
            elif sent:
                # Sessions are ended one by one: whatever the error says of the last one, others may have ended.
                recording.unknown(answer.reason)
                tracked.unknown.append(call)
            else:
                recording.refused(answer.reason)
        return answer

    def forget(self, tracked: Tracked, which: Literal["read", "change"]) -> None:
        """Nobody asks the session for this any more: a silence of its own is as long as it is now."""
        self._phases.forget((tracked, which), time.monotonic())

    def any_host(self) -> Host:
        """A host that is drawn."""
        return self._chance.choice(self.hosts)

    def host_for(self, tracked: Tracked) -> Host:
        """A host that is drawn, from the others where one has just refused this session, as a balancer would do. Else
        the silence of a session under a faulty host would be as long as chance likes.
        """
        others = [host for host in self.hosts if host.url != tracked.refused_by]
        return self._chance.choice(others or self.hosts)

    async def _send(  # noqa: PLR0917  (the request line's own order)
        self,
        kind: Kind,
        host: Host,
        method: str,
        path: str,
        body: Any = None,
        headers: str = "",
        *,
        session: tuple[Tracked, str] | None = None,
    ) -> Answer:
        labels = (kind, f"through {host.url}")
        self._phases.asked(labels, session, time.monotonic())
        answer = await ask(host, method, path, body, headers)
        self._phases.answered(labels, session, answer, changes=kind in CHANGES)
        if session is not None:
            session[0].refused_by = None if answer.acknowledged else host.url
        return answer

    @staticmethod
    def _begin(tracked: Tracked, call: Call, kind: Kind, host: Host) -> Operation:
        return tracked.history.begin(call, session_id=tracked.id, by=f"{kind} {host.url}")


def _path(tracked: Tracked) -> str:
    return f"/v1/sessions/{tracked.id}"


def _note(recording: Operation, answer: Answer) -> None:
    if answer.outcome is Outcome.DONE:
        body = answer.body or {}
        recording.answered(data=body.get("data"), revision=body.get("revision"))
    elif answer.outcome is Outcome.ABSENT:
        recording.absent()
    elif answer.outcome is Outcome.UNKNOWN:
        recording.unknown(answer.reason)
    else:
        recording.refused(answer.reason)
