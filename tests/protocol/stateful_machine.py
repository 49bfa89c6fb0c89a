"""Random operations and faults on a real fleet, and the invariants of docs/ownership.md (section 13) after each.

Time is real here, so a run does not repeat exactly and is not shrunk: what is printed is the history of the session.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from session_ops.errors import StoreUnavailableError
from session_ops.records import NewSession
from tests.linearizability import Call, Rules, assert_linearizable
from tests.owned import OFF, ON, as_administrator
from tests.protocol.stateful_fleet import ANSWERS, Fleet, gather
from tests.protocol.stateful_steps import FATES, Plan, current_plan

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.linearizability import Operation
    from tests.owned import Host
    from tests.postgresql import PostgreSQLServer
    from tests.protocol.stateful_steps import Fate
    from tests.protocol.stateful_stores import Seen
    from tests.servers import RedisServer

RULES = Rules(dirty_reads=True, repeated_ends=True)
_numbers = itertools.count(1)

KINDS = {
    "get": 8,
    "update": 12,
    "replace": 2,
    "touch": 2,
    "create": 2,
    "delete": 1.2,
    "list": 0.5,
    "clean": 0.5,
    "revoke": 0.2,
}
FAULTS = {
    "none": 6,
    "flip": 4,
    "flush": 1,
    "restart": 1,
    "cut": 2,
    "freeze": 1,
    "legacy freeze": 1,
    "legacy restart": 0.5,
    "bump": 3,
    "two bumps": 1,
    "cancelled": 1,
    "abandoned": 1,
    "rollback": 1,
    "trip": 4,
}
BUMPS = frozenset({"bump", "two bumps", "cancelled", "abandoned", "rollback"})
TELLING = ("apply", "apply", "apply", "put", "mark", "claim", "kill")
"""Steps at which a crash or a delay leaves something to finish."""

BURSTS_BETWEEN = 2
"""Bursts before a bump while nobody is at work: it takes longer than they do."""

ALIVE = 3
"""Sessions that there are at the beginning of each burst, at least."""


class Action(NamedTuple):
    """One call: after a pause (seconds), of which kind, on which session, and what happens to its steps."""

    pause: float
    kind: str
    session_id: str
    expects: bool
    fates: list[tuple[str | int, Fate]]


def draw(chance: Random, weights: dict[str, float]) -> str:
    """One of the keys."""
    return chance.choices(list(weights), list(weights.values()))[0]


def draw_fates(chance: Random) -> list[tuple[str | int, Fate]]:
    """Nothing, mostly; else something at the n-th step, or at one that tells."""
    if chance.random() < 0.45:
        return []
    step = chance.randrange(5) if chance.random() < 0.5 else chance.choice(TELLING)
    return [(step, chance.choice(FATES))]


class OwnedMachine(RuleBasedStateMachine):
    """A fleet of two to four hosts. The servers are given by whoever runs it."""

    server: ClassVar[RedisServer]
    url: ClassVar[str]
    postgresql: ClassVar[PostgreSQLServer | None] = None
    met: ClassVar[Counter[Any] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.fleet: Fleet
        self.ids: list[str] = []
        self.alive: list[str] = []
        self.revisions: dict[str, str] = {}
        self.values = itertools.count(1)
        self.bursts = 0
        self.revokes: list[list[Operation]] = []

    def _run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize(hosts=st.integers(2, 4))
    def begin(self, hosts: int) -> None:
        async def begin() -> None:
            self.fleet = Fleet(self.server, self.url, self.postgresql, hosts)
            await self.fleet.open()

        self._run(begin())

    @rule(chance=st.randoms(use_true_random=True))
    def burst(self, chance: Random) -> None:
        """Clients at once, a fault among them; then everything comes to rest and is looked at."""
        self.bursts += 1

        async def burst() -> None:
            for host in self.fleet.hosts:
                host.flag = ON if chance.random() < 0.6 else OFF
                if chance.random() < 0.7:
                    await gather(host.store.steps.control())
            while len(self.alive) < ALIVE:
                await gather(self._create(chance.choice(self.fleet.hosts), "first"))
            fault = draw(chance, FAULTS)
            # Steps that outlast a bump are what its guards are for
            long = fault in BUMPS and chance.random() < 0.6
            # A trip is final after the better part of a second: clients are to be at it all the way
            spread = 0.8 if fault == "trip" else 0.3 if long else 0.004
            self.fleet.hooks.pause = 0.7 if long else 0.05
            work = [
                self._client(chance.choice(self.fleet.hosts), self._draw_actions(chance, spread), f"client{number}")
                for number in range(chance.randint(3, 9))
            ]
            await gather(*work, self._fault(fault, chance))
            await self.fleet.settle()
            await self._audit()
            await self._read_both_ways(chance.choice(self.ids[-5:]))

        self._run(burst())

    def _draw_actions(self, chance: Random, spread: float) -> list[Action]:
        ids = self.ids[-5:] if chance.random() < 0.2 else self.alive[:2]
        return [
            Action(
                chance.uniform(0, spread),
                draw(chance, KINDS),
                chance.choice(ids),
                chance.random() < 0.2,
                draw_fates(chance),
            )
            for _ in range(chance.randint(1, 5))
        ]

    @precondition(lambda self: self.bursts >= BURSTS_BETWEEN)
    @rule(crash_at=st.sampled_from([None, "wait", "key", "open"]), to_redis=st.sampled_from([True, True, False]))
    def begin_generation(self, crash_at: str | None, to_redis: bool) -> None:
        """An operator's bump while nobody is at work; it must change no value."""

        self.bursts = 0

        async def begin() -> None:
            before = [await self.fleet.stores.look(each) for each in self.ids]
            await gather(self.fleet.bump(self.fleet.hosts[0], to_redis=to_redis, crash_at=crash_at))
            await self.fleet.stores.poison(self.ids)
            after = await self._audit()
            if before and before[0].control.generation != after[0].control.generation:
                for seen, now in zip(before, after, strict=True):
                    row = seen.row
                    assert now.value() == (None if row is None or row.deleted else row.session.data)

        self._run(begin())

    async def _fault(self, fault: str, chance: Random) -> None:
        fleet = self.fleet
        one, two = fleet.hosts[0], fleet.hosts[1]
        await asyncio.sleep(chance.uniform(0, 0.02))
        happens: dict[str, Callable[[], Awaitable[object]]] = {
            "flip": self._flip,
            "flush": lambda: as_administrator(self.server, "FLUSHALL"),
            "restart": lambda: fleet.restart_redis(0),
            "cut": lambda: fleet.restart_redis(chance.randint(1, 3000)),
            "freeze": lambda: fleet.freeze_redis(chance.uniform(0, 0.5)),
            "legacy freeze": lambda: fleet.freeze_legacy(chance.uniform(0, 0.5)),
            "legacy restart": fleet.restart_legacy,
            "bump": lambda: fleet.bump(two),
            "rollback": lambda: fleet.bump(two, to_redis=False),
            "two bumps": lambda: asyncio.gather(fleet.bump(one), fleet.bump(two)),
            "cancelled": lambda: asyncio.gather(fleet.bump(two), self._cancel_soon()),
            "abandoned": lambda: fleet.bump(two, crash_at="open"),
            "trip": lambda: fleet.trip(chance),
        }
        if fault in happens:
            await happens[fault]()

    async def _flip(self) -> None:
        for host in self.fleet.hosts:
            host.flag = OFF if host.flag is ON else ON
            await asyncio.sleep(0.005)

    async def _cancel_soon(self) -> None:
        await asyncio.sleep(0.1)
        await self.fleet.cancel()

    async def _create(self, host: Host, by: str) -> None:
        new = f"session{next(_numbers)}"
        self.ids.append(new)
        self.alive.append(new)
        data = {"k0": next(self.values)}
        for ends in self.revokes:
            ends.append(self.fleet.history.begin(Call.delete(), session_id=new, by=by))
        session = await self.fleet.client(host, by).create(NewSession(id=new, user_id="ann", data=data))
        self.revisions[new] = session.revision

    async def _client(self, host: Host, actions: list[Action], by: str) -> None:
        for action in actions:
            await asyncio.sleep(action.pause)
            token = current_plan.set(Plan(*action.fates))
            try:
                await self._act(host, action, by)
            except ANSWERS:
                pass
            finally:
                current_plan.reset(token)

    async def _act(self, host: Host, action: Action, by: str) -> None:
        client = self.fleet.client(host, by)
        session_id = action.session_id
        expected = self.revisions.get(session_id) if action.expects else None
        number = next(self.values)
        if action.kind == "create":
            await self._create(host, by)
        elif action.kind == "get":
            await client.get(session_id)
        elif action.kind == "update":
            changed = await client.update(session_id, changes={f"k{number % 2}": number}, expected_revision=expected)
            self.revisions[session_id] = changed.revision
        elif action.kind == "replace":
            changed = await client.replace(session_id, data={"k0": number}, expected_revision=expected)
            self.revisions[session_id] = changed.revision
        elif action.kind == "touch":
            await client.touch(session_id)
        elif action.kind == "delete":
            await client.delete(session_id, expected_revision=expected)
        elif action.kind == "revoke":
            await self._revoke(host, by)
        elif action.kind == "list":
            await host.repository.list_sessions(user_id="ann")
        else:
            await host.repository.clean(10)

    async def _revoke(self, host: Host, by: str) -> None:
        """End the user's sessions: what was there before it began is gone once it has answered, and what was born
        while it asked for the time may be.
        """
        ends = [self.fleet.history.begin(Call.delete(), session_id=each, by=by) for each in self.ids]
        self.revokes.append(ends)
        try:
            await host.repository.delete_user("ann")
        finally:
            self.revokes.remove(ends)
            for end in ends:
                end.unknown("revoke answers a number")

    async def _audit(self) -> list[Seen]:
        """Look at everything at rest; what each session is worth is one more read of its history."""
        looked = []
        for session_id in self.ids:
            read = self.fleet.history.begin(Call.get(), session_id=session_id, by="stores")
            seen = await self.fleet.stores.look(session_id)
            looked.append(seen)
            if session_id in self.alive and (seen.row is None or seen.row.deleted):
                self.alive.remove(session_id)
            self.fleet.watch.check(session_id, seen)
            value = seen.value()
            if value is not None:
                read.answered(data=value)
            elif seen.being_born:
                read.unknown("being born")
            elif seen.being_ended:
                read.unknown("being ended")
            else:
                read.absent()
        return looked

    async def _read_both_ways(self, session_id: str) -> None:
        """Reads with the flag on and off agree, bring the session home, and a second run changes nothing."""
        before = await self.fleet.stores.look(session_id)
        if before.control.closing is not None or await self.fleet.dead_reason() is not None:
            return
        answers = []
        for number, (flag, owner) in enumerate(((ON, "redis"), (OFF, "legacy"))):
            host = self.fleet.hosts[number]
            host.flag = flag
            answers.append(await self._patiently(host, session_id))
            home = await self.fleet.stores.look(session_id)
            self.fleet.watch.check(session_id, home)
            if answers[-1] is not None:
                assert home.row is not None
                active = home.record is not None and home.record.state == "active"
                owned = home.redis_owns
                assert ("redis" if owned else "legacy") == owner, f"{session_id} is not at its home {owner}: {home}"
                assert active == owned, f"{session_id}: not exactly one store accepts writes: {home}"
            again = await self._patiently(host, session_id)
            assert again == answers[-1]
            assert await self.fleet.stores.look(session_id) == home, "a second read has changed something"
        assert answers[0] == answers[1]
        if not before.being_born:
            assert answers[0] == before.value()

    async def _patiently(self, host: Host, session_id: str) -> Any:
        """A read of an operation that is alone; only a busy machine makes it fail."""
        refused = ""
        for _ in range(20):
            try:
                session = await self.fleet.client(host, "alone").get(session_id)
            except StoreUnavailableError as error:
                refused = str(error)
                await asyncio.sleep(0.05)
            else:
                return session and session.data
        raise AssertionError(f"{session_id}: no answer, {refused}, {await self.fleet.stores.look(session_id)}")

    async def _end(self) -> None:
        """Forced rollback: everything that was acknowledged is in the legacy store."""
        await self.fleet.settle()
        while await self.fleet.dead_reason() != "":
            await self.fleet.bump(self.fleet.hosts[0], to_redis=False)
        await self._audit()
        for session_id in self.ids:
            for host in self.fleet.hosts:
                await self._patiently(host, session_id)
        assert_linearizable(self.fleet.history, RULES)

    def teardown(self) -> None:
        """Check the whole history, and close."""
        if not hasattr(self, "fleet"):
            self.runner.close()
            return
        try:
            self._run(self._end())
        finally:
            if self.met is not None:
                self.met.update(self.fleet.hooks.met)
            self._run(self.fleet.close())
            self.runner.close()
