"""Small HTTP stores for the ledger's own tests: a correct one, and ones that are wrong in one way each.

All hosts of a store share its sessions, as service hosts share theirs. `Trouble` makes a store fail as a real one may:
whatever it does then is honest, so that a ledger must find nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from dataclasses import dataclass
from typing import Any, Self

Answer = tuple[int, Any]
Session = dict[str, Any]

NOT_FOUND: Answer = (404, {"type": "urn:session-ops:problem:session-not-found"})
NOTHING: Answer = (503, {"type": "urn:session-ops:problem:store-unavailable"})
UNKNOWN: Answer = (503, {"type": "urn:session-ops:problem:outcome-unknown"})


@dataclass(frozen=True)
class Trouble:
    """How often (0 to 1) a request is refused, answered as unknown, broken off, or left hanging."""

    refused: float = 0.0
    unknown: float = 0.0
    broken: float = 0.0
    hanging: float = 0.0


class Store:
    """A correct store. A request takes up to 2 ms before it takes effect, and as long behind that."""

    hosts = 2

    def __init__(self, seed: int = 1, trouble: Trouble | None = None) -> None:
        self.chance = random.Random(seed)  # noqa: S311  (faults, no secret)
        self.trouble = trouble or Trouble()
        self.sessions: dict[str, Session] = {}
        self.down = False
        self._numbers = itertools.count(1)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.later: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for _ in range(self.hosts):
            self._servers.append(await asyncio.start_server(self._serve, "127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in (*self._tasks, *self.later):
            task.cancel()
        await asyncio.gather(*self._tasks, *self.later, return_exceptions=True)

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in self._servers]

    # What a store does with a session. The broken ones replace one of these.

    def read(self, session_id: str, host: int) -> Session | None:  # noqa: ARG002  (one broken store differs by host)
        return self.sessions.get(session_id)

    def create(self, user_id: str, data: dict[str, Any]) -> Session:
        session: Session = {
            "id": f"s{next(self._numbers)}",
            "user_id": user_id,
            "data": data,
            "revision": self.revision(),
        }
        self.sessions[session["id"]] = session
        return session

    def merge(self, session: Session, changes: dict[str, Any]) -> Session:
        data = {name: value for name, value in {**session["data"], **changes}.items() if value is not None}
        return self.write(session, data)

    def write(self, session: Session, data: dict[str, Any]) -> Session:
        changed = {**session, "data": data, "revision": self.revision()}
        self.sessions[session["id"]] = changed
        return changed

    def delete(self, session_id: str) -> bool:
        return self.sessions.pop(session_id, None) is not None

    def revoke(self, user_id: str) -> int:
        owned = [each["id"] for each in self.sessions.values() if each["user_id"] == user_id]
        return sum(self.delete(session_id) for session_id in owned)

    def revision(self) -> str:
        return f"{self.chance.getrandbits(64):016x}"

    # HTTP, as much of it as the ledger speaks.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        port = writer.get_extra_info("sockname")[1]
        host = [server.sockets[0].getsockname()[1] for server in self._servers].index(port)
        try:
            while await self._one(reader, writer, host):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        await asyncio.sleep(self.chance.random() * 0.002)
        if self.down:
            self._write(writer, NOTHING)
            return True
        if self.chance.random() < self.trouble.refused:
            self._write(writer, NOTHING)
            return True
        # Where the outcome is not told, the change takes effect, or does not.
        takes_effect = self.chance.random() < 0.5
        for fate in ("unknown", "broken", "hanging"):
            if self.chance.random() < getattr(self.trouble, fate):
                if takes_effect:
                    self._answer(method, path, json.loads(body or b"{}"), headers, host)
                return await self._fail(fate, writer)
        answer = self._answer(method, path, json.loads(body or b"{}"), headers, host)
        await asyncio.sleep(self.chance.random() * 0.002)
        self._write(writer, answer)
        return True

    async def _fail(self, fate: str, writer: asyncio.StreamWriter) -> bool:
        if fate == "unknown":
            self._write(writer, UNKNOWN)
            return True
        if fate == "hanging":
            await asyncio.sleep(3600)
        return False

    def _answer(self, method: str, path: str, body: Any, headers: dict[str, str], host: int) -> Answer:
        path, _, query = path.partition("?")
        parts = path.split("/")[2:]
        if parts[0] == "users":
            return 200, {"deleted": self.revoke(parts[1])}
        if len(parts) == 1 and method == "POST":
            return 201, self.create(body["user_id"], body["data"])
        if len(parts) == 1:
            user_id = query.split("&")[0].removeprefix("user_id=")
            owned = [each["id"] for each in self.sessions.values() if each["user_id"] == user_id]
            return 200, {"sessions": [self.read(each, host) for each in owned], "cursor": None}
        return self._of_one(method, parts[1], body, headers, host)

    def _of_one(self, method: str, session_id: str, body: Any, headers: dict[str, str], host: int) -> Answer:
        if method == "DELETE":
            return (204, None) if self.delete(session_id) else NOT_FOUND
        session = self.read(session_id, host) if method in {"GET", "POST"} else self.sessions.get(session_id)
        if session is None:
            return NOT_FOUND
        if method == "PATCH":
            changed = self.merge(session, body["data"])
            return (204, None) if "prefer" in headers else (200, changed)
        return 200, session if method != "PUT" else self.write(session, body["data"])

    @staticmethod
    def _write(writer: asyncio.StreamWriter, answer: Answer) -> None:
        status, body = answer
        content = b"" if body is None else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)


class LosesWrites(Store):
    """Acknowledges one change in 50 and does not make it."""

    def write(self, session: Session, data: dict[str, Any]) -> Session:
        changed = super().write(session, data)
        if self.chance.random() < 0.02:
            self.sessions[session["id"]] = session
        return changed


class LosesLastWrites(Store):
    """`lose_a_second` undoes the changes of the last second, as a Redis does that loses the end of its AOF."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._before: dict[str, tuple[float, Session]] = {}

    def write(self, session: Session, data: dict[str, Any]) -> Session:
        self._before[session["id"]] = (asyncio.get_running_loop().time(), session)
        return super().write(session, data)

    def lose_a_second(self) -> None:
        limit = asyncio.get_running_loop().time() - 1
        for session_id, (at, session) in self._before.items():
            if at > limit and session_id in self.sessions:
                self.sessions[session_id] = session


class Revives(Store):
    """One deleted session in four is there again a little later."""

    async def _revive(self, session: Session) -> None:
        await asyncio.sleep(0.05)
        self.sessions[session["id"]] = session

    def delete(self, session_id: str) -> bool:
        session = self.sessions.get(session_id)
        if session is not None and self.chance.random() < 0.25:
            self.later.add(asyncio.get_running_loop().create_task(self._revive(session)))
        return super().delete(session_id)


class AnswersStale(Store):
    """Its second host answers one read in ten with the value before the last change."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._before: dict[str, Session] = {}

    def write(self, session: Session, data: dict[str, Any]) -> Session:
        self._before[session["id"]] = session
        return super().write(session, data)

    def read(self, session_id: str, host: int) -> Session | None:
        session = super().read(session_id, host)
        if session is not None and host == 1 and self.chance.random() < 0.1:
            return self._before.get(session_id, session)
        return session


class MergesWhole(Store):
    """A merge reads the session, waits, and writes the whole of it: two at once overwrite each other's attributes."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._read: dict[str, Session] = {}

    def merge(self, session: Session, changes: dict[str, Any]) -> Session:
        # What a merge read that began together with the one before: the session without that one's change.
        base = self._read.get(session["id"], session) if self.chance.random() < 0.1 else session
        self._read[session["id"]] = session
        return super().merge({**session, "data": base["data"]}, changes)


class RevokesAllButOne(Store):
    """A revoke leaves out the user's newest session."""

    def revoke(self, user_id: str) -> int:
        owned = [each["id"] for each in self.sessions.values() if each["user_id"] == user_id]
        return sum(self.delete(session_id) for session_id in owned[:-1])


class ForgetsOldSessions(Store):
    """A session that nobody has changed for a second is gone, as with an expiry that does not slide."""

    def write(self, session: Session, data: dict[str, Any]) -> Session:
        changed = super().write(session, data)
        self.later.add(asyncio.get_running_loop().create_task(self._forget(changed)))
        return changed

    async def _forget(self, session: Session) -> None:
        await asyncio.sleep(1)
        if self.sessions.get(session["id"]) is session:
            del self.sessions[session["id"]]
