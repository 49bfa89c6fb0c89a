"""A bump: the one way to begin another generation (docs/ownership.md, section 8).

Failover, restart, loss of Redis, forced rollback and enabling Redis again are all the same four steps. Whoever has seen
the generation dead may take them, several at once too: the token decides whose fourth step counts.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, Literal

from session_ops.errors import StoreUnavailableError
from session_ops.logs import get_logger
from session_ops.stores.redis import RedisSessionRepository

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from session_ops.stores.connection import Connection
    from session_ops.stores.control_store import ControlRow, ControlStore

BEYOND_LEASE: Final = 1.0
"""Seconds that a bump waits beyond the lease: a statement that was sent within it may still be running."""

_log = get_logger()


def abandoned_after(lease: float) -> float:
    """Seconds after which a bump that was begun counts as abandoned: twice what one waits.

    Less than one bump's own wait, and two hosts would take it over from each other for ever.
    """
    return 2 * (lease + BEYOND_LEASE)


class BumpRefusedError(Exception):
    """The bump is over before its end: another one, a cancel, or the mode final came first."""


async def bump(
    store: ControlStore,
    seen: ControlRow,
    *,
    target: Connection | None,
    address: str,
    partitions: int,
    lease: float,
    lost: bool = False,
    without: Literal["off", "away"] = "off",
    automatic: bool = False,
    step: Callable[[str], Awaitable[None]] | None = None,
) -> str | None:
    """Begin the generation after `seen`; its prefix, None where it has no Redis.

    `seen` is the control row in which the generation was seen dead. `target` reaches the new server at `address`
    (HOST:PORT), None: no server, and Redis is then `without`. `lost`: the pinned server itself has answered LOST, which
    it answers to everybody, so that nobody's lease need be waited for; otherwise the wait is `lease` + 1 s.
    `automatic`: a host's own doing, which leaves alone a bump that another one began a moment ago. `step` is awaited
    before each step, with its name.

    Raises `BumpRefusedError`, and `StoreUnavailableError` when a store cannot be asked: the generation stands then, and
    the closing is cancelled or will be taken over.
    """

    async def at(name: str) -> None:
        if step is not None:
            await step(name)

    token = secrets.token_hex(16)
    await at("close")
    if not await store.close(seen.generation, token, stale=abandoned_after(lease) if automatic else None):
        raise BumpRefusedError("the generation is over, final, or another bump is under way")
    try:
        if not (lost and target is not None):
            await at("wait")
            await asyncio.sleep(lease + BEYOND_LEASE)
        prefix, pin = None, None
        if target is not None:
            await at("key")
            prefix, pin = await _open(target, seen.generation + 1, partitions)
        await at("open")
        opened = await store.open(
            seen,
            token,
            prefix=prefix,
            pin=pin,
            redis="on" if pin else without if target is None else "away",
            addresses=address,
            identity=await store.identity(),
            automatic=automatic,
        )
    except (StoreUnavailableError, asyncio.CancelledError):
        # Leases may be granted again; if even that fails, the closing is taken over as abandoned
        await _cancel(store, seen.generation, token)
        raise
    if not opened:
        raise BumpRefusedError("another bump or a cancel came first")
    _log.warning("generation_opened", generation=seen.generation + 1, prefix=prefix, redis=address, automatic=automatic)
    return prefix


async def _open(target: Connection, generation: int, partitions: int) -> tuple[str | None, str | None]:
    """Step 3: a prefix never used before, and the pin; nothing where too few replicas refuse every change."""
    prefix = f"{generation}-{secrets.token_hex(4)}"
    try:
        pin = await RedisSessionRepository(target, prefix=prefix, partitions=partitions).open_mirrored()
    except StoreUnavailableError as error:
        if error.reason == "too few replicas":
            return None, None
        raise
    return prefix, pin


async def _cancel(store: ControlStore, generation: int, token: str) -> None:
    try:
        await store.cancel(generation, token)
    except StoreUnavailableError as error:
        _log.warning("bump_not_cancelled", generation=generation, reason=error.reason)
