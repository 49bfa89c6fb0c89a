"""What befalls Redis, and the passing of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.guards import guard
from tests.protocol.progress import Next, finish
from tests.protocol.records import Process, Record, World
from tests.protocol.redis_steps import with_server

if TYPE_CHECKING:
    from collections.abc import Callable


def flush(world: World, process: Process) -> list[Next]:
    """Redis loses everything. In final mode Redis alone answers for its data."""
    if world.mode == "F":
        return []
    server = world.servers[0]
    count = len(server.records)
    empty = server._replace(modes=("",) * count, records=(None,) * count)
    return [Next("REDIS LOSES EVERYTHING", with_server(world, 0, empty), finish(process, "end"))]


def copied(world: World) -> World:
    """Server 1 is a replica of server 0, or its disk: it has what server 0 has now."""
    now, copy = world.servers
    return world._replace(servers=(now, copy._replace(modes=now.modes, records=now.records)))


def sync(world: World, process: Process) -> list[Next]:
    """The replica or the disk copies, any number of times before the promotion."""
    if world.promoted or copied(world) == world:
        return []
    return [Next("REPLICA OR DISK COPIES", copied(world), process)]


def rewind(world: World, process: Process) -> list[Next]:
    """Server 0 starts again with what the disk has: keys and generation key, but not its last writes."""
    if world.mode == "F":
        return []
    now, disk = world.servers
    after = world._replace(servers=(disk._replace(run=now.run + 1), disk))
    return [Next("REDIS STARTS AGAIN WITH OLDER DATA", after, finish(process, "end"))]


def promote(world: World, process: Process) -> list[Next]:
    """The replica becomes a primary, and the old one does not know."""
    after = world._replace(promoted=True)
    return [Next("REPLICA PROMOTED, the old primary goes on", after, finish(process, "end"))]


def tick(world: World, process: Process) -> list[Next]:
    """The untouched session expires; then its keys go from R."""
    if not guard("markers and tombstones live as long as the session"):
        after = _evicted(world, lambda record: record.state != "A")
        return [Next(f"TIME {world.now}", after, finish(process, "end"))]
    if world.now == 0:
        return [Next("TIME 1", world._replace(now=1), process)]
    after = _evicted(world._replace(now=2), lambda record: "t" not in record.data)
    return [Next("TIME 2", after, finish(process, "end"))]


def _evicted(world: World, vanishes: Callable[[Record], bool]) -> World:
    servers = tuple(
        server._replace(records=tuple(None if record and vanishes(record) else record for record in server.records))
        for server in world.servers
    )
    return world._replace(servers=servers)
