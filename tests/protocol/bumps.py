"""The steps of a bump (section 8 of the protocol), with a server (`bump`) and without one (`fence`), and its cancel."""

from __future__ import annotations

from tests.protocol.control import granted, places
from tests.protocol.guards import guard
from tests.protocol.progress import Next, finish
from tests.protocol.records import Home, Process, World
from tests.protocol.redis_steps import changed, mode_in, with_server


def bump_close(world: World, process: Process) -> list[Next]:
    """Step 1: no more leases. A closing that stands already is taken over with a new token."""
    token = world.tokens + 1
    after = world._replace(leases=granted(world), closing=token, tokens=token)
    waiting = process._replace(at="wait", generation=world.generation, token=token)
    return [Next(f"BUMP g{world.generation}: closing = {token}", after, waiting)]


def bump_wait(world: World, process: Process) -> list[Next]:
    """Step 2: wait until the leases granted before the token are over, unless the pinned server answers nobody.

    Waiting longer than this changes nothing, and a lease that ends early is a read that is not scheduled.
    """
    generation = process.generation
    answers = any(mode_in(world, generation, server) for server in places(world, generation))
    waits = answers and guard("bump: waits for the leases")
    leases = tuple(0 if waits and token <= process.token else token for token in world.leases)
    after = process._replace(at="key") if process.kind == "bump" else process._replace(at="open", home=Home(-1))
    label = f"BUMP: has waited under {process.token}" if waits else "BUMP: no wait"
    return [Next(label, world._replace(leases=leases), after)]


def prepared(world: World, number: int, generation: int) -> tuple[World, Home]:
    """Step 3: SET NX of the generation key of a new prefix on a server."""
    prefix = len(world.servers[number].modes) if guard("keys: a new prefix for every bump") else generation
    servers = tuple(
        server
        if prefix < len(server.modes)
        else server._replace(modes=(*server.modes, ""), records=(*server.records, None))
        for server in world.servers
    )
    server = servers[number]
    server = server._replace(modes=changed(server.modes, prefix, server.modes[prefix] or "M"))
    return with_server(world._replace(servers=servers), number, server), Home(number, server.run, prefix)


def bump_key(world: World, process: Process) -> list[Next]:
    """Step 3, on whatever server the bump has found."""
    following = []
    for number in range(2 if world.promoted else 1):
        after, home = prepared(world, number, process.generation)
        label = f"BUMP: generation key on server {number}"
        following.append(Next(label, after, process._replace(at="open", home=home)))
    return following


def opened(world: World, home: Home) -> World:
    """Step 4: the control row names the new generation."""
    return world._replace(
        generation=world.generation + 1,
        homes=(*world.homes, home),
        mode="M",
        closing=0,
        leases=(*granted(world), 0),
    )


def bump_open(world: World, process: Process) -> list[Next]:
    """Step 4, if nobody else has bumped, taken over or cancelled meanwhile."""
    assert process.home is not None
    mine = world.closing == process.token or (world.closing and not guard("bump: closing is a token, not a flag"))
    if (
        world.generation != process.generation
        or (not mine and guard("bump: opens only while it is closing"))
        or (world.mode == "F" and guard("bump: only if L is complete"))
    ):
        return [Next("BUMP refused", world, finish(process, "end"))]
    new, server = world.generation + 1, process.home.server
    label = f"BUMP: g{new} on server {server}" if server >= 0 else f"FORCED ROLLBACK: g{new} without Redis"
    return [Next(label, opened(world, process.home), finish(process, "end"))]


def cancel(world: World, process: Process) -> list[Next]:
    """The operator cancels, any number of times."""
    return [Next("BUMP cancelled", world._replace(closing=0), process)] if world.closing else []
