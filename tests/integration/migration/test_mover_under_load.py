"""Movers among clients, beside hosts whose flags disagree: no answer contradicts another."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from session_ops.errors import (
    RevisionConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from session_ops.records import NewSession
from session_ops.settings import Flag
from tests.integration.migration.test_mover_stops import killed_at
from tests.linearizability import History, Recorded, Rules, assert_linearizable
from tests.protocol.stateful_steps import CrashError

if TYPE_CHECKING:
    from tests.integration.migration.moving import Migration

SESSIONS = 40
TTL = 86_400
ROUNDS = ((100, True, None), (100, False, "put"), (50, True, "claim"), (100, True, "apply"), (0, True, "mark"))


async def test_no_client_notices_a_mover(migration: Migration) -> None:
    await migration.open(rows=300)
    history, over = History(), asyncio.Event()
    flags = (Flag(True, 50), Flag(False, 100))
    clients = [
        Recorded(migration.host(flag).repository, history, by=f"app{number}", ttl=TTL)
        for number, flag in enumerate(flags)
    ]
    names = [f"c{number}" for number in range(SESSIONS)]
    for name in names:
        await clients[0].create(NewSession(id=name, user_id="ann", data={"k0": 0}))

    async def load(seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311 - no secret
        while not over.is_set():
            client, name = draw.choice(clients), draw.choice(names)
            with suppress(StoreUnavailableError, SessionNotFoundError, SessionExistsError, RevisionConflictError):
                match draw.randrange(10):
                    case 0 if len(names) < 4 * SESSIONS:
                        names.append(f"{name}-{seed}-{len(names)}")
                        await client.create(NewSession(id=names[-1], user_id="ann", data={"k0": 1}))
                    case 1 if name != "c0":
                        await client.delete(name)
                    case 2 | 3 | 4:
                        await client.update(name, changes={f"k{draw.randrange(3)}": draw.randrange(1_000)})
                    case _:
                        await client.get(name)
            await asyncio.sleep(0.004)

    running = [asyncio.ensure_future(load(seed)) for seed in range(6)]
    moved = 0
    try:
        for percent, on, dies in ROUNDS:
            await migration.want(percent, on=on)
            if dies:
                with suppress(CrashError):
                    await migration.mover(migration.host(), before=killed_at(dies, 2)).run(batch=10)
            done = await migration.mover(migration.host()).run(batch=30)
            moved += done.moved_in + done.moved_back
            await asyncio.sleep(0.2)
    finally:
        over.set()
        await asyncio.gather(*running)
    for name in names:
        with suppress(SessionNotFoundError):
            await clients[1].get(name)

    assert moved > 600
    assert_linearizable(history, Rules(repeated_ends=True, dirty_reads=True))
    assert await migration.disagreements() == []
