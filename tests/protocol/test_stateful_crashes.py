"""Every operation, wherever the session is and wants to be, with a crash, a delay or a repetition at each of its steps.

The steps that an operation takes are learnt from a run without a fault, so that a new step is covered by itself.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import pytest

from session_ops.records import NewSession
from tests.linearizability import Rules, assert_linearizable
from tests.owned import OFF, ON
from tests.protocol.stateful_fleet import Fleet, gather
from tests.protocol.stateful_steps import FATES, LEGACY, REDIS, Fate, Plan, current_plan
from tests.protocol.test_stateful_owned import redis, short_wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.linearizability import Recorded
    from tests.owned import Host
    from tests.servers import RedisServer

__all__ = ["redis", "short_wait"]  # fixtures that pytest finds here

KINDS: Final[dict[str, Callable[[Recorded, str], Awaitable[object]]]] = {
    "create": lambda client, new: client.create(NewSession(id=new, user_id="ann", data={"k0": 1})),
    "get": lambda client, at: client.get(at),
    "update": lambda client, at: client.update(at, changes={"k1": 2}),
    "replace": lambda client, at: client.replace(at, data={"k0": 3}),
    "delete": lambda client, at: client.delete(at),
    "touch": lambda client, at: client.touch(at),
}
_numbers = itertools.count(1)
_orders = itertools.cycle((True, True, False, False, True))  # of an odd number: each fate meets both


async def prepared(fleet: Fleet, kind: str, owner: str, flag: str) -> str:
    """A session that `owner` owns, and a flag that wants it where it may not be."""
    name = f"{kind}-{owner}-{flag}-{next(_numbers)}"
    first = fleet.hosts[0]
    first.flag = ON if owner == "redis" else OFF
    if kind != "create":
        await fleet.client(first, "first").create(NewSession(id=name, user_id="ann", data={"k0": 0}))
    first.flag = ON if flag == "redis" else OFF
    return name


async def run(fleet: Fleet, kind: str, name: str, plan: Plan) -> None:
    """The operation through the first host, under its plan; then everything that outlives it."""
    token = current_plan.set(plan)
    client: Recorded = fleet.client(fleet.hosts[0], "first")

    async def operation() -> None:
        await KINDS[kind](client, name)

    await gather(operation())
    current_plan.reset(token)
    await fleet.settle()


async def look(fleet: Fleet, name: str, host: Host) -> None:
    """A read by another host, after which exactly one store accepts writes: the session's home."""
    found = await fleet.client(host, "other").get(name)
    seen = await fleet.stores.look(name)
    fleet.watch.check(name, seen)
    if found is not None:
        active = seen.record is not None and seen.record.state == "active"
        assert active == seen.redis_owns == (host.flag is ON)
        assert found.data == seen.value()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_operation_that_is_interrupted_anywhere_leaves_what_the_next_one_finishes(
    kind: str, redis: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(redis, f"sqlite:///{tmp_path}/sessions.db", None, hosts=3, lease=6.0, redis_deadline=2.0)
    fleet.hooks.pause = 0.002
    await fleet.open()
    taken: set[str] = set()
    try:
        for owner, flag in itertools.product(("redis", "legacy"), repeat=2):
            name, learnt = await prepared(fleet, kind, owner, flag), Plan()
            await run(fleet, kind, name, learnt)
            assert learnt.taken
            taken |= set(learnt.taken)
            for position, fate in itertools.product(range(len(learnt.taken)), FATES):
                await _interrupted(fleet, (kind, owner, flag), (position, fate))
        assert taken <= {*LEGACY, *REDIS}
        assert_linearizable(fleet.history, Rules(repeated_ends=True))
    finally:
        await fleet.close()


async def _interrupted(fleet: Fleet, which: tuple[str, str, str], fate: tuple[int, Fate]) -> None:
    kind, owner, flag = which
    name = await prepared(fleet, kind, owner, flag)
    await run(fleet, kind, name, Plan(fate))
    fleet.watch.check(name, await fleet.stores.look(name))
    second, third = fleet.hosts[1:]
    second.flag, third.flag = (ON, OFF) if next(_orders) else (OFF, ON)
    await look(fleet, name, second)
    await look(fleet, name, third)
