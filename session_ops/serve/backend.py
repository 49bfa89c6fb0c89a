"""What a worker serves from: Redis alone, or both stores with an owner for each session."""

from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from session_ops.errors import SettingsError
from session_ops.readiness_rules import Owned, RedisAlone
from session_ops.redis_access import connect, make_repository
from session_ops.release import current_release
from session_ops.settings import split_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from session_ops.metrics import Metrics
    from session_ops.readiness_rules import Rule
    from session_ops.records import StoreState
    from session_ops.settings import Flag, Settings
    from session_ops.stores.connection import Connection
    from session_ops.stores.contract import Leading


class Backend(NamedTuple):
    """A repository, what it is called in the metrics, and how its stores are asked how they are."""

    repository: Leading
    name: str
    redis: Callable[[], Awaitable[StoreState]]
    legacy: Callable[[], Awaitable[StoreState]] | None
    rule: Rule


def process_name() -> tuple[str, int]:
    """Host and process id: what this process is called among the fleet's."""
    return socket.gethostname(), os.getpid()


@asynccontextmanager
async def open_backend(settings: Settings, flag: Callable[[], Flag], metrics: Metrics) -> AsyncIterator[Backend]:
    """The backend of the settings, for the life of a worker. `flag` answers the flag in force."""
    connection = connect(settings)
    try:
        if settings.legacy_database_url:
            async with _owned(settings, connection, flag, metrics) as backend:
                yield backend
        else:
            repository = make_repository(settings, connection)
            address = f"{settings.redis_host}:{settings.redis_port}"
            yield Backend(repository, "redis", repository.describe, None, RedisAlone(address))
    finally:
        await connection.close()


@asynccontextmanager
async def _owned(
    settings: Settings, connection: Connection, flag: Callable[[], Flag], metrics: Metrics
) -> AsyncIterator[Backend]:
    from session_ops.fleet import Member  # noqa: PLC0415 - SQLAlchemy: 0.3 s and 20 MB that Redis alone does not need
    from session_ops.healing import Healing  # noqa: PLC0415
    from session_ops.owned_access import make_owned  # noqa: PLC0415

    me, lease = process_name(), settings.session_lease
    address = f"{settings.redis_host}:{settings.redis_port}"
    members: list[Member] = []

    def failed() -> None:
        for member in members:
            member.failed()

    def connect_to(other: str) -> Connection:
        host, port = split_address(other)
        return connect(settings.replace(redis_host=host, redis_port=port))

    store = make_owned(
        settings,
        connection,
        flag,
        moved=lambda home: metrics.count("session_ops_moves_total", home),
        on_failure=failed,
    )
    healing = Healing(
        store,
        me=me,
        own_address=address,
        connect=connect_to,
        partitions=settings.session_partitions,
        lease=lease,
        fallback_after=settings.session_fallback_after,
        bumped=lambda cause: metrics.count("session_ops_bumps_total", cause),
    )
    member = Member(store, healing, me=me, release=current_release(), lease=lease)
    members.append(member)
    try:
        async with member:
            rule = Owned(store, member, address)
            yield Backend(store.repository, "owned", store.describe_redis, store.describe_legacy, rule)
    finally:
        await store.close()


def check_parts(settings: Settings) -> None:
    """Raise `SettingsError` for what only shows when a value is used; nothing is connected to."""
    from session_ops.agents import load_agent_manager  # noqa: PLC0415 - a look at the settings needs no server
    from session_ops.api.tokens import Tokens  # noqa: PLC0415

    Tokens.from_setting(settings.session_tokens)
    load_agent_manager(settings.session_agent_manager)
    connect(settings)
    check_legacy(settings)


def check_legacy(settings: Settings) -> None:
    """Raise `SettingsError` for a legacy database that cannot be used; opens nothing."""
    if not settings.legacy_database_url:
        return
    from session_ops.owned_access import make_database  # noqa: PLC0415 - as above

    try:
        make_database(settings)
    except ImportError:
        raise SettingsError("LEGACY_DATABASE_URL: must be an SQLAlchemy URL with an installed driver") from None
