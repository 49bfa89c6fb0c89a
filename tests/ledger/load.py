"""The load: which request is sent when, and the way of a user from its first session to the archive."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.ledger.archive import begin_anew
from tests.ledger.sessions import Stage, Tracked, User
from tests.linearizability import History

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine, Iterable

    from tests.ledger.answers import Answer
    from tests.ledger.archive import Archive
    from tests.ledger.calls import Calls
    from tests.ledger.readback import ReadBack
    from tests.ledger.sessions import Existing

_TICK = 0.005
_RUNNING_LIMIT = 400
"""Requests on their way at once. While hosts hang, further ones are held back and counted."""

_RETRY_AFTER = 0.1
"""Seconds after which a session that was refused is asked again, so that the length of its silence is known."""

_BUDGET = (15, 40)
_OLD_BUDGET = 300
"""Acknowledged requests to a user in its life; one user in ten grows old."""

Step = Literal["read", "touch", "merge", "replace", "delete"]
_STEPS: tuple[Step, ...] = ("read", "touch", "merge", "replace", "delete")
_WEIGHTS = (45, 6, 32, 15, 2)


class _Due(NamedTuple):
    """A request that is not drawn: a user's end, or a failed one again. Without a session: a revoke."""

    at: float
    user: User
    tracked: Tracked | None = None
    step: Step = "read"


class Load:
    """Sends `rate` requests per second, spread over the hosts, to about `rate / 10` sessions at a time."""

    def __init__(
        self,
        calls: Calls,
        read_back: ReadBack,
        archive: Archive,
        chance: random.Random,
        *,
        rate: float,
        name: str,
        existing: Iterable[Existing] = (),
    ) -> None:
        """`name` is the beginning of the users' ids: no other run on the same stores may have it.

        While there are `existing` users, every second one is taken from them, in their order.
        """
        self.held_back = 0
        self.adopted: set[str] = set()
        """The existing sessions that were taken, and may be other than they were."""
        self._existing = iter(existing)
        self._calls = calls
        self._back = read_back
        self._archive = archive
        self._chance = chance
        self._rate = rate
        self._name = name
        self._wanted = max(12, round(rate / 10))
        self._users: list[User] = []
        self._numbers = 0
        self._running = 0
        self._settling = 0
        self._due: deque[_Due] = deque()
        self._tasks = asyncio.TaskGroup()

    async def run(self, stopping: asyncio.Event, patience: float) -> None:
        """Send requests until `stopping` is set, then read everything back.

        What does not answer for `patience` seconds is left unread. A machine that was held up does not send the missed
        requests in a burst.
        """
        async with self._tasks:
            sent, began = 0, time.monotonic()
            while not stopping.is_set():
                await asyncio.sleep(_TICK)
                due = int((time.monotonic() - began) * self._rate) - sent
                sent += due
                for _ in range(min(due, max(1, int(self._rate / 10)))):
                    self._send()
            self._back.give_up = time.monotonic() + patience
            while self._running:  # noqa: ASYNC110  (an event would be set and cleared 300 times a second)
                await asyncio.sleep(_TICK)
            self._due.clear()
            for user in list(self._users):
                self._settle(user)
        await self._back.everything()

    def _send(self) -> None:
        if self._running >= _RUNNING_LIMIT:
            self.held_back += 1
            return
        request = self._next()
        if request is not None:
            self._running += 1
            self._tasks.create_task(self._one(request))

    async def _one(self, request: Coroutine[None, None, None]) -> None:
        try:
            await request
        finally:
            self._running -= 1

    def _next(self) -> Coroutine[None, None, None] | None:
        """What to send now: what is due, new users, or anything at random. The load goes on beside what is repeated."""
        if self._due and self._due[0].at <= time.monotonic() and self._chance.random() < 0.7:
            return self._repeated(self._due.popleft())
        living = sum(len(user.sessions) + user.creating for user in self._users)
        if living < self._wanted and self._settling < self._wanted and self._chance.random() < 0.5:
            return self._begin(self._new_user())
        kept = self._archive.drawn() if self._chance.random() < 0.05 else None
        if kept is not None:
            return self._back.audit(*kept)
        return self._at_random(self._chance.choice(self._users)) if self._users else None

    def _repeated(self, due: _Due) -> Coroutine[None, None, None] | None:
        if due.user.stage is Stage.SETTLING:
            return None
        if due.tracked is None:
            usable = all(each.changeable for each in due.user.sessions)
            return self._revoke(due.user) if usable else None
        reads = due.step in {"read", "touch"}
        if due.tracked.free and (reads or due.tracked.changeable):
            return self._step(due.tracked, due.step)
        if due.tracked.running:
            self._due.append(due._replace(at=time.monotonic() + _RETRY_AFTER))
        else:
            self._calls.forget(due.tracked, "read" if reads else "change")
        return None

    def _at_random(self, user: User) -> Coroutine[None, None, None] | None:
        if user.may_create and self._chance.random() < 0.1:
            return self._create(user)
        if not user.sessions:
            return None
        if self._chance.random() < 0.04 and all(each.free for each in user.sessions):
            return self._list(user)
        tracked = self._chance.choice(user.sessions)
        if tracked.free:
            step = self._chance.choices(_STEPS, _WEIGHTS)[0]
            return self._step(tracked, step if tracked.changeable else "read")
        if not user.running and not user.creating:
            self._settle(user)
        return None

    def _new_user(self) -> User:
        self._numbers += 1
        budget = _OLD_BUDGET if self._chance.random() < 0.1 else self._chance.randint(*_BUDGET)
        existing = next(self._existing, None) if self._numbers % 2 else None
        user = User(existing.user_id if existing else f"{self._name}-{self._numbers}", budget)
        for session_id, data in existing.sessions.items() if existing else ():
            tracked = Tracked(session_id, user, History())
            begin_anew(tracked, {"data": dict(data), "revision": None})
            user.sessions.append(tracked)
            self.adopted.add(session_id)
        self._users.append(user)
        return user

    def _begin(self, user: User) -> Coroutine[None, None, None]:
        return self._step(user.sessions[0], "read") if user.sessions else self._create(user)

    async def _create(self, user: User) -> None:
        user.creating += 1
        tracked = await self._calls.create(user, self._calls.any_host())
        user.creating -= 1
        if tracked is not None:
            user.sessions.append(tracked)
        elif not user.sessions and not user.creating:
            self._users.remove(user)

    async def _list(self, user: User) -> None:
        sessions = tuple(user.sessions)
        self._enter(user, *sessions)
        self._leave(user, await self._calls.list_sessions(user, self._calls.any_host()), *sessions)

    async def _revoke(self, user: User) -> None:
        self._enter(user, *user.sessions)
        answer = await self._calls.revoke(user, self._calls.any_host())
        self._leave(user, answer, *user.sessions)
        if not answer.acknowledged:
            self._due.append(_Due(time.monotonic() + _RETRY_AFTER, user))

    async def _step(self, tracked: Tracked, step: Step) -> None:
        user, host = tracked.user, self._calls.host_for(tracked)
        self._enter(user, tracked)
        match step:
            case "read" | "touch":
                answer = await self._calls.read(tracked, host, step)
            case _:
                answer = await self._calls.change(tracked, host, step)
        self._leave(user, answer, tracked)
        if not answer.acknowledged:
            self._due.append(_Due(time.monotonic() + _RETRY_AFTER, user, tracked, step))

    @staticmethod
    def _enter(user: User, *sessions: Tracked) -> None:
        user.running += 1
        for each in sessions:
            each.running += 1
            each.requests += 1

    def _leave(self, user: User, answer: Answer, *sessions: Tracked) -> None:
        user.running -= 1
        for each in sessions:
            each.running -= 1
        user.budget -= answer.acknowledged
        if user.budget <= 0 and not user.creating:
            self._advance(user)

    def _advance(self, user: User) -> None:
        """The next stage of a user's life: its sessions end or are left, and a few late requests come behind that."""
        if user.stage is Stage.LIVING:
            user.stage = Stage.AFTERMATH
            user.budget = 8 * len(user.sessions)
            ending = self._chance.choice(("revoke", "delete", "leave"))
            now = time.monotonic()
            if ending == "revoke":
                self._due.appendleft(_Due(now, user))
            elif ending == "delete":
                self._due.extendleft(_Due(now, user, each, "delete") for each in user.sessions)
            else:
                self._settle(user)
        elif user.stage is Stage.AFTERMATH:
            self._settle(user)

    def _settle(self, user: User) -> None:
        if user.stage is not Stage.SETTLING:
            user.stage = Stage.SETTLING
            self._users.remove(user)
            self._settling += 1
            for tracked in user.sessions:
                self._calls.forget(tracked, "change")
            self._tasks.create_task(self._conclude(user))

    async def _conclude(self, user: User) -> None:
        """Wait until nothing runs on the user's sessions, then retire them one by one."""
        while user.running or user.creating:  # noqa: ASYNC110  (as above)
            await asyncio.sleep(0.02)
        for tracked in user.sessions:
            await self._back.retire(tracked)
        self._settling -= 1
