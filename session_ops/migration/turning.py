"""The turns between the modes (docs/ownership.md, section 9): the control row, the generation key, and the hosts.

A turn of the control row asks for the generation that was seen and for no bump under way; a turn of the generation key
asks for the pinned server, and counts once it is on disk there and with every replica. Hosts say within a third of a
lease what they have seen.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from session_ops.errors import MismatchError, StoreUnavailableError, UnfinishedError
from session_ops.migration.work import Progress, silent
from session_ops.stores.layout import Names
from session_ops.stores.state import info_fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.generation import RedisGeneration
    from session_ops.migration.validated import Validated
    from session_ops.migration.validation import Validator
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.connection import Connection
    from session_ops.stores.control_store import ControlRow, HostRow

ON_DISK: Final = 2.0
"""Seconds after which Redis has written down what it has acknowledged: `appendfsync everysec` may be a second late."""

PATIENCE: Final = 30.0
"""Seconds that a live host may take to show what it has seen."""

_AGAIN: Final = 0.2


class Turning:
    """Turns one fleet. `lease` in seconds; `before` is awaited before every step with its name, for tests."""

    def __init__(
        self,
        store: OwnedStore,
        *,
        lease: float,
        progress: Progress = silent,
        patience: float = PATIENCE,
        on_disk: float = ON_DISK,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._lease = lease
        self._progress = progress
        self._patience = patience
        self._on_disk = on_disk
        self._before = before

    async def at(self, name: str) -> None:
        """A step is about to be taken."""
        self._progress(name)
        if self._before is not None:
            await self._before(name)

    async def look(self) -> ControlRow:
        """The control row; this process goes by it from here on."""
        await self._store.steps.control()
        return await self._store.control_store.read()

    async def redis(self, seen: ControlRow) -> RedisGeneration:
        """The steps of the generation that was seen, as its control row is now. Raises `UnfinishedError` where another
        one has begun.
        """
        control = await self._store.steps.control()
        if control.generation != seen.generation or control.pin is None:
            raise UnfinishedError(
                f"generation {control.generation} has begun: every session is the legacy store's. Nothing is lost; move"
                " them again (playbooks/migrate.yml)"
            )
        return self._store.redis_at(self._store.connection, control)

    async def key_now(self, seen: ControlRow) -> str | None:
        """The mode that the generation key has, whatever server this is; None: there is none."""
        mode = await self._store.connection.call("GET", Names(seen.prefix or "", 0).generation)
        return None if mode is None else str(mode.decode())

    async def row(self, seen: ControlRow, before: str, after: str) -> None:
        """The control row turns. Raises `UnfinishedError` where it is not as it was seen any more."""
        await self.at(f"row {after}")
        if not await self._store.control_store.turn(seen.generation, before, after):
            now = await self.look()
            raise UnfinishedError(
                f"generation {now.generation} is in mode {now.mode}{', a bump is under way' if now.closing else ''}: "
                f"not generation {seen.generation} in mode {before} any more. Nothing is lost; run the same again"
            )

    async def key(self, seen: ControlRow, before: str, after: str) -> None:
        """The generation key turns, and is on disk. Raises `StoreUnavailableError` where Redis refuses it."""
        await self.at(f"key {after}")
        redis = await self.redis(seen)
        await redis.repository.change_mode(before, after)
        await self.written_down()

    async def written_down(self) -> None:
        """Wait until what Redis has acknowledged is on disk."""
        await written_down(self._store.connection, self._on_disk)

    async def hosts(self, seen: ControlRow, mode: str, pin: str | None = None) -> None:
        """Wait until every live host has seen the mode, and the pin. Raises `UnfinishedError` naming those that have
        not.
        """
        await self.at(f"hosts {mode}")
        until = time.monotonic() + self._patience
        while late := await self._late(seen.generation, mode, pin):
            if time.monotonic() > until:
                raise UnfinishedError(
                    f"{', '.join(late)} has not seen mode {mode}: `systemctl status session-service` there; a host that"
                    " is stopped is not waited for. Run the same again"
                )
            self._progress(f"hosts {mode}", reason=f"waiting for {', '.join(late)}")
            await asyncio.sleep(_AGAIN)

    async def compare(self, validator: Validator, otherwise: str) -> Validated:
        """Every session in both stores. Raises `UnfinishedError`, and `MismatchError` that ends with `otherwise`."""
        await self.at("compare")
        validated = await validator.run("full")
        if validated.state != "done":
            raise UnfinishedError(f"stopped while it compared: {validated.reason}; the same command goes on")
        if not validated.agree:
            raise MismatchError(
                f"the stores differ on {len(validated.mismatches):,} sessions: `session-ops migrate validate --full"
                f" --repair` says on which and why; {otherwise}"
            )
        return validated

    async def _late(self, generation: int, mode: str, pin: str | None) -> list[str]:
        def shows(host: HostRow) -> bool:
            return (host.generation, host.mode) == (generation, mode) and (pin is None or host.pin == pin)

        hosts = await self._store.control_store.hosts(self._lease)
        return sorted({host.host for host in hosts if host.live and not shows(host)})


async def persistence(connection: Connection) -> dict[str, str]:
    """What Redis says of its files and its replicas. One round trip."""
    answers = await asyncio.gather(connection.call("INFO", "persistence"), connection.call("INFO", "replication"))
    return info_fields(b"\r\n".join(answers))


def persistence_flaw(said: dict[str, str]) -> str | None:
    """Why Redis would not keep what it alone has; None where it does."""
    if said.get("aof_enabled") != "1":
        return "Redis keeps no append-only file: what it alone has would be gone with its process; `appendonly yes`"
    if said.get("aof_last_write_status", "ok") != "ok":
        return "Redis cannot write its append-only file: see its log and the disk it is on"
    return None


async def written_down(connection: Connection, seconds: float) -> None:
    """Wait until what this connection has written is on disk, and with every replica that there is.

    Raises `StoreUnavailableError`.
    """
    said = await persistence(connection)
    replicas = int(said.get("connected_slaves", "0"))
    if replicas and await connection.call("WAIT", replicas, 2000, change=True) < replicas:
        raise StoreUnavailableError("redis", "too few replicas")
    await asyncio.sleep(seconds)
    if persistence_flaw(await persistence(connection)) is not None:
        raise StoreUnavailableError("redis", "cannot persist")
