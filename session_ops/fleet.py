"""This process as one of the fleet: it renews its lease, says how it fares, and looks after the generation."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from session_ops.background import Background
from session_ops.errors import StoreUnavailableError
from session_ops.logs import get_logger
from session_ops.pulse import Pulse
from session_ops.stores.control_store import Report
from session_ops.stores.legacy_steps import clock
from session_ops.stores.state import describe

if TYPE_CHECKING:
    from session_ops.healing import Healing
    from session_ops.owned_access import OwnedStore
    from session_ops.stores.control_store import HostRow

LOOKS_PER_LEASE: Final = 3
"""A look at the control row may be lost without the lease ending."""

_SOON: Final = 0.1
"""Seconds between two looks while something is wrong, or many requests that fail would make as many looks."""


class Member:
    """One serving process. `me` is host and process id, `lease` in seconds.

    Use it as an async context manager: the background work runs in between.
    """

    def __init__(self, store: OwnedStore, healing: Healing, *, me: tuple[str, int], release: str, lease: float) -> None:
        self._store = store
        self._healing = healing
        self._me = me
        self._release = release
        self._lease = lease
        self._pulse = Pulse()
        self._generation: int | None = None
        self._others: list[HostRow] = []
        self._trouble: str | None = None
        self._looked = float("-inf")
        self._log = get_logger()
        interval = lease / LOOKS_PER_LEASE
        self._renewing = Background("lease", self._renew, interval)
        self._beating = Background("fleet", self._beat, interval)

    async def __aenter__(self) -> Member:
        """Begin; a legacy store that is down is tried again."""
        self._renewing.start()
        self._beating.start()
        self._renewing.wake()
        self._beating.wake()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the work, and take this process' row away: it is not there to be waited for."""
        await self._renewing.stop()
        await self._beating.stop()
        await self._healing.close()
        try:
            await self._store.control_store.forget(*self._me)
        except StoreUnavailableError as error:
            self._log.info("host_row_left", reason=error.reason)

    def failed(self) -> None:
        """A request has had an unusable answer of Redis: look now."""
        self._beating.wake()

    @property
    def halted(self) -> bool:
        """Whether the hosts have stopped bumping by themselves."""
        return self._healing.halted

    @property
    def cut_off(self) -> bool:
        """Whether this host has had no good answer of Redis for a lease while another live host has had one."""
        since = self._pulse.bad_since
        if since is None or clock() - since < self._lease:
            return False
        control = self._store.control.current
        if control is None or control.redis != "on":
            return False
        return any(
            host.live and (host.host, host.pid) != self._me and host.redis_bad_since is None and host.redis_good_at
            for host in self._others
        )

    async def _renew(self) -> None:
        try:
            await self._store.steps.control()
        except StoreUnavailableError as error:
            if self._trouble != error.reason:
                self._log.warning("legacy_unreachable", reason=error.reason)
            self._trouble = error.reason
        else:
            if self._trouble is not None:
                self._log.info("legacy_back")
            self._trouble = None

    async def _beat(self) -> None:
        pause = self._looked + _SOON - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        self._looked = time.monotonic()
        try:
            await self._look_at_redis()
            await self._report()
            self._others = await self._store.control_store.hosts(self._lease)
            if not await self._healing.consider():
                self._beating.wake()
        except StoreUnavailableError as error:
            self._log.debug("fleet_not_seen", store=error.store, reason=error.reason)

    async def _look_at_redis(self) -> None:
        """Ask the Redis of this host's settings, whether it is the pinned one."""
        control = self._store.control.current
        if control is None:
            control = await self._store.steps.control()
        if control.generation != self._generation:
            self._generation, self._pulse = control.generation, Pulse()
        redis, sent = self._store.generations.current, clock()
        if redis is None:
            state = await describe(self._store.connection, None)
            good = state.details["role"] == "master" and state.details["library"]
        else:
            try:
                good, now = True, await redis.probe()
                self._store.control.heard_redis(now)
            except StoreUnavailableError:
                good = False
        if good:
            self._pulse.good(sent)
        else:
            self._pulse.bad()

    async def _report(self) -> None:
        control, flag, pulse = self._store.control.current, self._store.flag(), self._pulse
        if control is None:
            return
        await self._store.control_store.report(
            Report(
                host=self._me[0],
                pid=self._me[1],
                release=self._release,
                use_redis=flag.use_redis_sessions,
                percent=flag.session_redis_percent,
                generation=control.generation,
                prefix=control.prefix,
                mode=control.mode,
                closing=control.closing,
                good_age=pulse.age(pulse.good_at),
                good_since_age=pulse.age(pulse.good_since),
                bad_age=pulse.age(pulse.bad_since),
                pin=control.pin,
            )
        )
