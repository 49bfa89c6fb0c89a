"""The hosts heal the fleet: which of them bumps, when, and to where (docs/ownership.md, section 8, who bumps).

A host never acts on what it alone has seen. It asks the address that the control row names, not the one in its own
settings; and it leaves everything as it is while any live host has had a good answer of the pinned Redis since its own
first bad one, or has not yet said so. So a wrong address or a broken link moves nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from session_ops.bump import BumpRefusedError, abandoned_after, bump
from session_ops.errors import StoreUnavailableError
from session_ops.generation import UNUSABLE
from session_ops.logs import get_logger
from session_ops.pulse import Pulse
from session_ops.records import Control
from session_ops.stores.control_store import REMEMBERED
from session_ops.stores.legacy_steps import clock
from session_ops.stores.replies import LOST
from session_ops.stores.state import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.owned_access import OwnedStore
    from session_ops.stores.connection import Connection
    from session_ops.stores.control_store import ControlRow, HostRow

Cause = Literal["lost", "restarted", "away", "returned", "legacy changed"]

LIMIT_WITHIN: Final = 600.0
"""Seconds in which three automatic bumps are the last: then a person decides."""

RETURN_AFTER: Final = 60.0
"""Seconds for which every live host must have had good answers before a Redis that was given up is taken again."""


def too_many_bumps(row: ControlRow) -> bool:
    """Whether there were three automatic bumps within ten minutes, by the legacy store's clock."""
    return len(row.bumped_at) >= REMEMBERED and row.now - row.bumped_at[-REMEMBERED] < LIMIT_WITHIN * 1000


class Verdict(NamedTuple):
    """What should be done: a bump for this cause, to `target` or to no server. `since`: the first bad answer."""

    cause: Cause
    target: Connection | None
    since: float | None


class Healing:
    """Looks after the generation in force, from one process. Times in seconds.

    `own_address` (HOST:PORT) is what this process serves from, over the store's own connection; `connect` makes a
    connection to another address. `bumped` is told the cause of each bump that was made here.
    """

    def __init__(
        self,
        store: OwnedStore,
        *,
        me: tuple[str, int],
        own_address: str,
        connect: Callable[[str], Connection],
        partitions: int,
        lease: float,
        fallback_after: float,
        return_after: float = RETURN_AFTER,
        bumped: Callable[[Cause], None] = lambda _: None,
        step: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._me = me
        self._own_address = own_address
        self._connect = connect
        self._partitions = partitions
        self._lease = lease
        self._fallback_after = fallback_after
        self._return_after = return_after
        self._bumped = bumped
        self._step = step
        self._elsewhere: tuple[str, Connection] | None = None
        self._pulse = Pulse()
        self._generation: int | None = None
        self._log = get_logger()
        self.halted = False
        """Whether three automatic bumps within ten minutes have ended them: a person has to look."""

    async def consider(self) -> bool:
        """Look, and bump where that is due. False where something is wrong and it is too early to act: ask again soon.

        Raises `StoreUnavailableError` when the legacy store cannot be asked.
        """
        row = await self._store.control_store.read()
        if row.generation != self._generation:
            self._generation, self._pulse = row.generation, Pulse()
        if row.mode == "final" or row.redis == "off":
            return True
        if row.closing is not None and (row.closing_at or 0) >= row.now - abandoned_after(self._lease) * 1000:
            return True  # whoever began it is at work
        verdict = await self._verdict(row)
        if verdict is None:
            return self._pulse.bad_since is None
        hosts = await self._store.control_store.hosts(self._lease)
        if not self._agreed(verdict, hosts, row):
            return False
        if self._limited(row):
            return True
        await self._bump(row, verdict)
        return True

    async def close(self) -> None:
        """Close the connection to another address, where there is one."""
        if self._elsewhere is not None:
            await self._elsewhere[1].close()

    async def _verdict(self, row: ControlRow) -> Verdict | None:
        identity = await self._store.control_store.identity()
        address = row.addresses.split(",")[0] or self._own_address
        connection = await self._at(address)
        if row.identity is not None and identity is not None and identity != row.identity:
            return Verdict("legacy changed", connection, None)
        if row.redis == "away" or row.prefix is None or row.pin is None:
            return await self._returned(connection)
        first = await self._probe(connection, row)
        if first is None:
            return None
        since = self._pulse.bad_since
        if first in UNUSABLE:
            second = await self._probe(connection, row)
            if second in UNUSABLE:
                lost = first == second == LOST
                return Verdict("lost" if lost else "restarted", connection, since)
        if since is not None and clock() - since >= self._fallback_after:
            return Verdict("away", None, since)
        return None

    async def _probe(self, connection: Connection, row: ControlRow) -> str | None:
        """Ask the pinned address; None for a good answer, else the reason."""
        control = Control(
            generation=row.generation,
            prefix=row.prefix,
            pin=row.pin,
            mode="mirror",
            closing=None,
            redis="on",
            addresses="",
            canaries=frozenset(),
        )
        sent = clock()
        try:
            await self._store.redis_at(connection, control).probe()
        except StoreUnavailableError as error:
            self._pulse.bad()
            return error.reason
        self._pulse.good(sent)
        return None

    async def _returned(self, connection: Connection) -> Verdict | None:
        """A Redis that was given up is taken again once it has been there for a while: a primary with the library."""
        sent = clock()
        state = await describe(connection, None)
        if state.details["role"] == "master" and state.details["library"]:
            self._pulse.good(sent)
        else:
            self._pulse.bad()
        since = self._pulse.good_since
        if since is not None and clock() - since >= self._return_after:
            return Verdict("returned", connection, None)
        return None

    def _agreed(self, verdict: Verdict, hosts: list[HostRow], row: ControlRow) -> bool:
        """Whether no live host knows better, and each has said so since."""
        others = [host for host in hosts if host.live and (host.host, host.pid) != self._me]
        if verdict.cause == "returned":
            least = row.now - self._return_after * 1000
            return all(host.redis_good_since is not None and host.redis_good_since <= least for host in others)
        if verdict.since is None:
            return True
        since = row.now - (clock() - verdict.since) * 1000
        return all(
            (host.redis_good_at is None or host.redis_good_at < since)
            and (host.redis_bad_since is not None or host.seen_at >= since)
            for host in others
        )

    def _limited(self, row: ControlRow) -> bool:
        many = too_many_bumps(row)
        if many and not self.halted:
            self._log.error("automatic_bumps_halted", bumps=len(row.bumped_at), within_seconds=LIMIT_WITHIN)
        self.halted = many
        return many

    async def _bump(self, row: ControlRow, verdict: Verdict) -> None:
        self._log.warning("generation_dead", generation=row.generation, cause=verdict.cause)
        try:
            await bump(
                self._store.control_store,
                row,
                target=verdict.target,
                address=row.addresses,
                partitions=self._partitions,
                lease=self._lease,
                lost=verdict.cause == "lost",
                without="away",
                automatic=True,
                step=self._step,
            )
        except BumpRefusedError as error:
            self._log.info("bump_refused", generation=row.generation, reason=str(error))
            return
        self._bumped(verdict.cause)
        await self._store.steps.control()  # this host need not wait for its next look

    async def _at(self, address: str) -> Connection:
        if address == self._own_address:
            return self._store.connection
        if self._elsewhere is None or self._elsewhere[0] != address:
            await self.close()
            self._elsewhere = (address, self._connect(address))
        return self._elsewhere[1]
