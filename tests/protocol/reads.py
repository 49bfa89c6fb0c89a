"""The two reads by which every operation finds the session (section 5 of the protocol), and what each decides."""

from __future__ import annotations

from tests.protocol.control import leased, places, redis_usable
from tests.protocol.guards import guard
from tests.protocol.progress import Next, again, finish, may_move, nothing_there
from tests.protocol.records import Process, Record, Row, World, fresh, redis_owned
from tests.protocol.redis_steps import hands_off, home_of, mode_in, record_in
from tests.protocol.values import value

MOVERS = ("move>", "move<")
"""The mover to R and the mover back."""


def read_redis(world: World, process: Process) -> list[Next]:
    """Home redis: one round trip if R owns the session. The key and the generation key are read together.

    Final mode needs no lease. If an older generation has LOST its data, the host looks at L again.
    """
    return [
        following
        for generation in range(1, world.generation + 1)
        for server in places(world, generation)
        if _readable(world, generation, server)
        for following in _read_redis_at(world, process, generation, server)
    ]


def _readable(world: World, generation: int, server: int) -> bool:
    mode = mode_in(world, generation, server)
    return (leased(world, generation) and (generation == world.generation or mode != "")) or mode == "F"


def _read_redis_at(world: World, process: Process, generation: int, server: int) -> list[Next]:
    record, mode = record_in(world, generation, server), mode_in(world, generation, server)
    label = f"R{server}.get g{generation}" + _shown(record)
    process = process._replace(generation=generation, server=server, mode=mode, record=record)
    if record is None or hands_off(record):
        if mode == "F":
            return [nothing_there(world, process, label)]
        return [Next(label, world, process._replace(at="look", none=value(world) is None))]
    if record.state == "T":
        if mode == "F" or not guard("a tombstone is finished in L before the answer"):
            return [nothing_there(world, process, label)]
        return [Next(label, world, process._replace(at="apply"))]
    if not fresh(world, record.data):
        return [nothing_there(world, process, label)]
    return [_in_redis(world, process, record, label)]


def _shown(record: Record | None) -> str:
    return f" {record.state} v{record.version} {record.data!r}" if record else " absent"


def _in_redis(world: World, process: Process, record: Record, label: str) -> Next:
    """R owns the session, and it is alive."""
    if process.kind == "read":
        return Next(label, world, finish(process, "end"), record.data)
    if process.kind == "delete":  # a host sends the kill at once: R.get adds nothing to it
        return Next(label, world, process._replace(at="r_kill", record=None))
    if process.kind in MOVERS:
        return Next(label, world, finish(process, "end"))
    remembered = "" if guard("R.cas: answers the mode") else process.mode
    return Next(label, world, process._replace(at="r_cas", mode=remembered))


def read_legacy(world: World, process: Process, *, home_redis: bool) -> list[Next]:
    """Read the row and the control row in one statement. `home_redis`: this host's home for the session is R."""
    row = world.row
    known = process.at == "look"  # process.record is what R had a moment ago
    if world.mode != "M" and not known and guard("L.get: mirror mode only"):
        after = finish(process, "end") if process.kind == "move<" else again(process, "redis")
        return [Next("L.get: not in mirror mode", world, after)]
    if row is None or row.deleted:
        return [nothing_there(world, process, "L.get")]
    label = f"L.get v{row.version} {row.owner} g{row.generation} {row.data!r}"
    if not redis_owned(world, row):
        return [_in_legacy(world, process, row, label, home_redis=home_redis)]
    if known:
        return [_between(world, process, row, label)]
    return _in_redis_not_asked(world, process, row, label, home_redis=home_redis)


def _in_legacy(world: World, process: Process, row: Row, label: str, *, home_redis: bool) -> Next:
    """L owns the session."""
    if not fresh(world, row.data):
        return nothing_there(world, process, label)
    if home_redis and may_move(process) and redis_usable(world):
        server = home_of(world, world.generation).server
        return Next(label, world, Process(process.kind, "claim", process.moves + 1, world.generation, server))
    if process.kind == "read":
        return Next(label, world, finish(process, "end"), row.data)
    if process.kind in MOVERS:
        return Next(label, world, finish(process, "end"))
    return Next(label, world, Process(process.kind, "l_cas", process.moves, world.generation, row=row))


def _between(world: World, process: Process, row: Row, label: str) -> Next:
    """R owns the session and was asked, but it is not active there: finish what somebody has begun."""
    if process.generation != row.generation:
        return Next(label, world, again(process))
    if process.record is not None and process.record.version > row.version:  # R gave it back
        return Next(label, world, process._replace(at="apply"))
    if not fresh(world, row.data) and not guard("an expired row that R owns: R decides"):
        return nothing_there(world, process, label)
    return Next(label, world, process._replace(at="put", row=row, record=None))  # L gave it away


def _in_redis_not_asked(world: World, process: Process, row: Row, label: str, *, home_redis: bool) -> list[Next]:
    """R owns the session, and was not asked."""
    if not redis_usable(world):
        return []
    server = home_of(world, row.generation).server
    if home_redis:  # the mover finds an unfinished move (or a finished one)
        return [Next(label, world, Process(process.kind, "put", process.moves, row.generation, server, row=row))]
    if may_move(process):
        marking = Process(process.kind, "mark", process.moves + 1, row.generation, server, row=row)
        return [Next(label, world, marking)]
    return [Next(label, world, again(process, "redis"))]  # work where the session is
