"""The atomic steps in R (section 3 of the protocol), one script each, and what R has of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tests.protocol.guards import guard
from tests.protocol.records import Record, Row, World, fresh

if TYPE_CHECKING:
    from tests.protocol.records import Home, Server

Item = TypeVar("Item")


def changed(items: tuple[Item, ...], at: int, item: Item) -> tuple[Item, ...]:
    """The tuple with one item replaced."""
    return (*items[:at], item, *items[at + 1 :])


def home_of(world: World, generation: int) -> Home:
    """Where a generation lives."""
    return world.homes[generation - 1]


def slot(world: World, generation: int) -> int:
    """The prefix under which a generation has its records."""
    return home_of(world, generation).prefix if guard("keys: one prefix per generation") else 0


def record_in(world: World, generation: int, server: int) -> Record | None:
    """What a server has of the session in a generation."""
    return world.servers[server].records[slot(world, generation)]


def mode_in(world: World, generation: int, server: int) -> str:
    """A generation's key on a server."""
    return world.servers[server].modes[home_of(world, generation).prefix]


def restarted(world: World, generation: int) -> bool:
    """The generation's server answers WRONG_SERVER: it is not the run that the pin names (final mode: no pin)."""
    home = home_of(world, generation)
    return (
        home.server >= 0
        and world.servers[home.server].run != home.run
        and mode_in(world, generation, home.server) != "F"
        and guard("pin: names the run of the server")
    )


def with_server(world: World, number: int, server: Server) -> World:
    """The world with one server replaced."""
    return world._replace(servers=changed(world.servers, number, server))


def with_record(world: World, generation: int, number: int, record: Record | None) -> World:
    """The world with the session's key on one server replaced."""
    server = world.servers[number]
    return with_server(world, number, server._replace(records=changed(server.records, slot(world, generation), record)))


def put(world: World, generation: int, server: int, row: Row) -> World:
    """Fill R with a claimed row, unless R has something newer."""
    record = record_in(world, generation, server)
    if not fresh(world, row.data) and guard("R.put: not expired"):
        return world
    if record is not None and record.version >= row.version and guard("R.put: version"):
        return world
    return with_record(world, generation, server, Record(row.version, "A", row.data))


def redis_cas(world: World, generation: int, server: int, seen: Record, data: str) -> tuple[World, Record | None]:
    """A write of a session that R owns."""
    record = record_in(world, generation, server)
    if record is None:
        return world, None
    if record.version != seen.version and guard("R.cas: version"):
        return world, None
    if not fresh(world, record.data) and guard("R.cas: not expired"):
        return world, None
    new = Record(record.version + 1, "A", data)
    return with_record(world, generation, server, new), new


def hands_off(record: Record | None) -> bool:
    """R has no active record, so neither a read nor a delete may work on it."""
    return record is None or (
        record.state in "MV" and (guard("R.get, R.kill: active records only") or record.state == "V")
    )


def kill(world: World, generation: int, server: int) -> tuple[World, Record | None]:
    """A delete of a session that R owns. Answers a tombstone that is there already, too."""
    record = record_in(world, generation, server)
    if record is None or hands_off(record):
        return world, None
    if record.state == "T" or not fresh(world, record.data):
        return world, record if record.state == "T" else None
    new = Record(record.version + (1 if guard("R.kill: version + 1") else 0), "T", record.data)
    return with_record(world, generation, server, new if guard("R.kill: leaves a tombstone") else None), new


def mark(world: World, generation: int, server: int, row: Row) -> tuple[World, Record | None]:
    """R gives the session back: from here on it refuses writes, and fills that are older than this."""
    record, mode = record_in(world, generation, server), mode_in(world, generation, server)
    if mode == "" and guard("R.mark: generation key"):
        return world, None
    if mode in {"H", "F"} and guard("R.mark: mirror mode only"):
        return world, None
    if record is None or record.version < row.version:  # the move to R was never finished
        new = Record(row.version + 1, "V", row.data)
        if not guard("R.mark: on an absent key" if record is None else "R.mark: over an older marker"):
            return world, new
    elif record.state == "A":
        new = Record(record.version + (1 if guard("R.mark: version + 1") else 0), "M", record.data)
    else:
        return world, record
    return with_record(world, generation, server, new), new
