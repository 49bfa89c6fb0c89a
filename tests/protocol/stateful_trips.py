"""A trip to final and back while clients are at work, by an operator who may die at any step of it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from session_ops.agents import LoggingAgentManager
from session_ops.errors import StoreUnavailableError, UnfinishedError
from session_ops.generation import UNUSABLE
from session_ops.migration.coming_back import ComingBack
from session_ops.migration.drain import Drain
from session_ops.migration.outbox import Outbox
from session_ops.migration.turning import Turning
from session_ops.stores.legacy_moves import Moves

if TYPE_CHECKING:
    from random import Random

    from session_ops.stores.control_store import ControlRow
    from tests.owned import Host

STEPS: Final = ("row hold", "key hold", "drain", "row final", "key final", "rest")
"""Before each of them the operator may die; "rest": Redis alone keeps the sessions for a while."""

HOMEWARD: Final = 30
"""Tries of the way back, which a bump of another one or a store that stands still may interrupt."""


class Trip:
    """`host` is the operator's process: its flag is on, and it serves nobody."""

    def __init__(self, host: Host, lease: float) -> None:
        store = host.store
        self._store = store
        self._lease = lease
        self._moves = Moves(store.database, store.schema, store.control_schema)
        self._turning = Turning(store, lease=lease, patience=0.5, on_disk=0.0)
        nothing: Any = None
        self._back = ComingBack(
            store, nothing, self._turning, self._moves, lease=lease, partitions=1, validator=nothing,
            outbox=lambda: Outbox(store.repository, LoggingAgentManager(), holder="operator", patience=1.0),
        )  # fmt: skip

    async def take(self, chance: Random) -> str:
        """Go as far as chance wants, and come back; where it ended on the way there."""
        stop = chance.choice([*STEPS, "", "", "", ""])
        with suppress(StoreUnavailableError, UnfinishedError):
            await self._there(stop, chance.uniform(0, 0.2))
        await self._home()
        return stop

    async def _there(self, stop: str, rest: float) -> None:
        turning = self._turning
        row = await turning.look()
        if row.mode != "mirror" or row.pin is None or row.closing is not None:
            return
        steps = {
            "row hold": lambda: turning.row(row, "mirror", "hold"),
            "key hold": lambda: self._held(row),
            "drain": self._drain,
            "row final": lambda: turning.row(row, "hold", "final"),
            "key final": lambda: turning.key(row, "hold", "final"),
            "rest": lambda: asyncio.sleep(rest),
        }
        for name in STEPS:
            if name == stop:
                return
            await steps[name]()

    async def _held(self, row: ControlRow) -> None:
        await self._turning.key(row, "mirror", "hold")
        await asyncio.sleep(self._lease + 0.1)

    async def _drain(self) -> None:
        drained = await Drain(self._store, self._moves).run()
        if drained.left:
            raise UnfinishedError(f"{drained.left} are left")

    async def _home(self) -> None:
        for _ in range(HOMEWARD):
            try:
                row = await self._turning.look()
                if row.mode == "mirror":
                    return
                if row.mode == "final":
                    await self._back._back(row)  # without the stage and the comparison
                else:
                    await self._turning.key(row, "hold", "mirror")
                    await self._turning.row(row, "hold", "mirror")
            except UnfinishedError:
                continue
            except StoreUnavailableError as error:
                if error.reason in UNUSABLE and row.mode == "hold":
                    return  # the hosts bump
                await asyncio.sleep(0.05)
        raise AssertionError(f"no way back: {await self._turning.look()}")
