"""What the control row lets a host do: the pin, the lease, the generation key as the host sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.guards import guard
from tests.protocol.redis_steps import changed, home_of, mode_in, restarted

if TYPE_CHECKING:
    from tests.protocol.records import World


def places(world: World, generation: int) -> list[int]:
    """A host talks only to the server that the control row names for the generation."""
    pin = home_of(world, generation).server
    if pin < 0 or restarted(world, generation):
        return []
    return [1 - pin, pin] if world.promoted and not guard("pin of the server") else [pin]


def granting(world: World) -> bool:
    """A host that looks at the control row now gets a lease on the current generation."""
    return not world.closing or not guard("lease: none while a bump is closing")


def granted(world: World) -> tuple[int, ...]:
    """The leases so far: those that are being granted now are waited for under the next token."""
    return changed(world.leases, world.generation - 1, world.tokens + 1) if granting(world) else world.leases


def leased(world: World, generation: int) -> bool:
    """Some host may hold a lease on this generation, so it may read R there."""
    current = generation == world.generation and granting(world)
    return current or world.leases[generation - 1] > 0 or not guard("lease")


def redis_usable(world: World) -> bool:
    """The control row has a pin and some host may hold a lease."""
    return home_of(world, world.generation).server >= 0 and leased(world, world.generation)


def key_now(world: World) -> str:
    """The generation key as a host of the current generation sees it."""
    server = home_of(world, world.generation).server
    if server < 0 or restarted(world, world.generation):
        return ""
    return mode_in(world, world.generation, server)
