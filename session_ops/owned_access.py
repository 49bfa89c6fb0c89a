"""From settings to the owned store: connection, database and everything between them, put together once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from session_ops.control import HostControl
from session_ops.errors import StoreUnavailableError
from session_ops.generation import Generations, RedisGeneration
from session_ops.limits import Limits
from session_ops.owned import OwnedSessionRepository
from session_ops.ownership import MOVES_PER_SECOND, Ownership
from session_ops.records import StoreState
from session_ops.stores.control_schema import ControlSchema
from session_ops.stores.control_store import ControlStore
from session_ops.stores.legacy import LegacySessionRepository
from session_ops.stores.legacy_columns import read_columns
from session_ops.stores.legacy_database import Database
from session_ops.stores.legacy_schema import Columns, Schema
from session_ops.stores.legacy_steps import LegacySteps
from session_ops.stores.redis import margin_of
from session_ops.stores.state import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_ops.ownership import Home
    from session_ops.records import Control
    from session_ops.settings import Flag, Settings
    from session_ops.stores.connection import Connection


class OwnedStore:
    """Both stores of one process, and who owns what in them. Times in seconds; nothing is sent before its first use.

    `flag` answers the flag in force, `moved` is told the direction of each move that was begun here (no more than
    `moves_per_second` for callers), `on_failure` of each answer of Redis that says: not the pinned server, or its data
    is lost.
    """

    def __init__(
        self,
        connection: Connection,
        database: Database,
        flag: Callable[[], Flag],
        *,
        table: str = "sessions",
        columns: Columns | None = None,
        ttl: int = 86_400,
        max_lifetime: int = 0,
        cleanup_interval: int = 3_600,
        partitions: int = 1,
        lease: float = 3.0,
        limits: Limits | None = None,
        moved: Callable[[Home], None] = lambda _: None,
        on_failure: Callable[[], None] = lambda: None,
        moves_per_second: float = MOVES_PER_SECOND,
    ) -> None:
        self.connection = connection
        self.database = database
        self.flag = flag
        limits = limits or Limits()
        self._life = {"ttl": ttl, "max_lifetime": max_lifetime}
        self._cleanup_interval = cleanup_interval
        self._partitions = partitions
        self._limits = limits
        self.schema = Schema(table, columns)
        self.control_schema = ControlSchema(table.rpartition(".")[0])
        self.generations = Generations(self._generation, on_failure)
        self.control = HostControl(lease, self.generations.changed)
        self.control_store = ControlStore(database, self.control_schema)
        self.legacy = LegacySessionRepository(
            database,
            table=table,
            columns=columns,
            cleanup_interval=cleanup_interval,
            limits=limits,
            control=self.control_schema,
            ttl=ttl,
            max_lifetime=max_lifetime,
        )
        self.steps = LegacySteps(
            database,
            self.schema,
            self.control_schema,
            self.control,
            ttl=ttl,
            max_lifetime=max_lifetime,
            margin=margin_of(cleanup_interval),
        )
        self.ownership = Ownership(
            self.steps,
            self.control,
            self.generations.steps,
            flag,
            moved=moved,
            failed=self.generations.failed,
            moves_per_second=moves_per_second,
        )
        self.repository = OwnedSessionRepository(
            self.ownership,
            self.control,
            self.generations,
            self.legacy,
            self.steps,
            ttl=ttl,
            max_lifetime=max_lifetime,
            limits=limits,
        )

    def redis_at(self, connection: Connection, control: Control) -> RedisGeneration:
        """The steps of the generation that `control` names, over another connection."""
        if control.prefix is None or control.pin is None:
            raise ValueError("the control row names no server")
        return RedisGeneration(
            connection,
            control.generation,
            control.prefix,
            control.pin,
            final=control.mode == "final",
            ttl=self._life["ttl"],
            max_lifetime=self._life["max_lifetime"],
            cleanup_interval=self._cleanup_interval,
            partitions=self._partitions,
            limits=self._limits,
        )

    def _generation(self, control: Control) -> RedisGeneration:
        return self.redis_at(self.connection, control)

    async def describe_redis(self) -> StoreState:
        """The state of Redis and of the generation in force; never raises. One round trip."""
        current = self.generations.current
        if current is not None:
            return await current.repository.describe()
        return await describe(self.connection, None)

    async def describe_legacy(self) -> StoreState:
        """The state of the legacy store, and of the control row in it; never raises. Two round trips."""
        state = await self.legacy.describe()
        if state.state == "down":
            return state
        try:
            row = await self.control_store.read()
        except StoreUnavailableError as error:
            return StoreState(state="down", reason=error.reason, details=state.details)
        details = {"generation": row.generation, "mode": row.mode, "redis": row.redis}
        return StoreState(state="up", reason=None, details={**state.details, **details})

    async def close(self) -> None:
        """Wait for what is under way, and close the database's pool. The connection is its maker's."""
        await self.repository.close()
        await self.database.close()


_DEADLINE = 2.0
"""Seconds for a statement of the legacy store, at most: within a lease of 3 s, as the protocol demands (section 2)."""


def make_database(settings: Settings) -> Database:
    """The legacy database of the settings; raises `SettingsError`, opens nothing."""
    return Database(settings.legacy_database_url, deadline=min(_DEADLINE, settings.session_lease * 2 / 3))


def make_owned(
    settings: Settings,
    connection: Connection,
    flag: Callable[[], Flag],
    *,
    moved: Callable[[Home], None] = lambda _: None,
    on_failure: Callable[[], None] = lambda: None,
    moves_per_second: float = MOVES_PER_SECOND,
) -> OwnedStore:
    """Both stores of the settings. See `OwnedStore`."""
    return OwnedStore(
        connection,
        make_database(settings),
        flag,
        table=settings.legacy_table,
        columns=read_columns(settings.legacy_columns),
        ttl=settings.session_ttl,
        max_lifetime=settings.session_max_lifetime,
        cleanup_interval=settings.session_cleanup_interval,
        partitions=settings.session_partitions,
        lease=settings.session_lease,
        limits=Limits(size=settings.session_data_limit),
        moved=moved,
        on_failure=on_failure,
        moves_per_second=moves_per_second,
    )
