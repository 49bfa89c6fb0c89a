"""A fleet at 100 %, whose legacy store is to be retired and to come back."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Self

from session_ops.agents import LoggingAgentManager
from session_ops.migration.audit import Audit
from session_ops.migration.coming_back import ComingBack
from session_ops.migration.drain import Drain
from session_ops.migration.outbox import Outbox
from session_ops.migration.retiring import Retirement, Terms
from session_ops.migration.runs import RunStore
from session_ops.migration.stages import REACHED, Stages
from session_ops.migration.turning import Turning
from session_ops.stores.legacy_columns import read_columns
from session_ops.stores.legacy_moves import Moves
from tests.integration.migration.application import COLUMNS
from tests.owned import ON, Host

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.agents import AgentManager
    from session_ops.migration.coming_back import Mirrored
    from session_ops.migration.retiring import Finalized
    from session_ops.owned_access import OwnedStore
    from tests.integration.migration.moving import Migration

LEASE = 0.6
ANN = "ann@elsewhere"
_numbers = itertools.count(1)


class Retiring:
    """`hosts` serve, and report as hosts do. The operator is ann."""

    def __init__(self, migration: Migration, hosts: int = 2) -> None:
        self.migration = migration
        self.hosts = [self._host(number) for number in range(1, hosts + 1)]
        self.agents: AgentManager = LoggingAgentManager()

    def _host(self, number: int) -> Host:
        application = self.migration.application
        host = Host(
            number, self.migration.address, application.url, lease=LEASE, legacy_deadline=2.0,
            table=application.table, columns=read_columns(COLUMNS), cleanup_interval=1,
        )  # fmt: skip
        host.flag = ON
        return host

    async def open(self, rows: int = 50) -> Self:
        """Every session is in Redis, the step 100 is reached, and every host serves."""
        await self.migration.open(rows)
        for host in self.hosts:
            await host.join()
        stages = self._stages(self.migration.store)
        await stages.begin("100")
        await self.migration.move()
        await stages.end("100", REACHED)
        return self

    async def run_id(self) -> str:
        """The run that the operator names: the last one, or the one that was named when this began."""
        store = self.migration.store
        step = (await self._stages(store).read()).steps[0]
        latest = await self._runs(store).latest()
        assert latest is not None
        return step.run_id or latest.run_id

    def _stages(self, store: OwnedStore) -> Stages:
        return Stages(store.database, store.control_schema, ANN)

    def _runs(self, store: OwnedStore) -> RunStore:
        return RunStore(store, self._moves(store), f"{ANN}:{next(_numbers)}")

    @staticmethod
    def _moves(store: OwnedStore) -> Moves:
        return Moves(store.database, store.schema, store.control_schema)

    @staticmethod
    def _turning(store: OwnedStore, before: Callable[[str], Awaitable[None]] | None) -> Turning:
        return Turning(store, lease=LEASE, patience=5.0, on_disk=0.1, before=before)

    def outbox(self, store: OwnedStore) -> Outbox:
        """As a process of its own has it."""
        return Outbox(store.repository, self.agents, holder=f"operator{next(_numbers)}", patience=5.0)

    def retirement(self, before: Callable[[str], Awaitable[None]] | None = None) -> Retirement:
        """By a process of its own."""
        store = self.migration.host(moves_per_second=1e9, cleanup_interval=1)
        return Retirement(
            store,
            self._runs(store),
            self._stages(store),
            Audit(store.database, store.control_schema, ANN),
            self._turning(store, before),
            lease=LEASE,
            mover=lambda: self.migration.mover(store),
            validator=lambda: self.migration.validator(store),
            drain=lambda: Drain(store, self._moves(store)),
            outbox=lambda: self.outbox(store),
        )

    def coming_back(self, before: Callable[[str], Awaitable[None]] | None = None) -> ComingBack:
        """By a process of its own."""
        store = self.migration.host(moves_per_second=1e9, cleanup_interval=1)
        return ComingBack(
            store,
            self._stages(store),
            self._turning(store, before),
            self._moves(store),
            lease=LEASE,
            partitions=1,
            validator=lambda: self.migration.validator(store),
            outbox=lambda: self.outbox(store),
        )

    async def finalize(self, before: Callable[[str], Awaitable[None]] | None = None, **terms: Any) -> Finalized:
        """Retire the legacy store."""
        named = Terms(**{"run_id": await self.run_id(), "soaked": 0.0, **terms})
        return await self.retirement(before).run(named)

    async def mirror(self, before: Callable[[str], Awaitable[None]] | None = None) -> Mirrored:
        """Bring it back."""
        return await self.coming_back(before).run()

    async def control(self) -> tuple[int, str]:
        """The generation, and the mode in the control row."""
        row = await self.migration.store.control_store.read()
        return row.generation, row.mode

    async def close(self) -> None:
        """End the hosts."""
        for host in self.hosts:
            await host.close()
