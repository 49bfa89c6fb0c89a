"""Retiring L, and coming back (section 9 of the protocol): one operator goes through hold, drain, final, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.control import key_now
from tests.protocol.faults import copied
from tests.protocol.guards import guard
from tests.protocol.legacy_steps import apply
from tests.protocol.progress import Next, finish
from tests.protocol.records import Process, World, expired_in_both, fresh, redis_owned
from tests.protocol.redis_steps import changed, home_of, record_in, restarted, with_server

if TYPE_CHECKING:
    from collections.abc import Callable


def key_set(world: World, generation: int, mode: str) -> World:
    """SET .. XX of the generation key: a lost one is never written again."""
    home = home_of(world, generation)
    server = world.servers[home.server]
    if server.modes[home.prefix] == "" and guard("generation key: never written again"):
        return world
    return with_server(world, home.server, server._replace(modes=changed(server.modes, home.prefix, mode)))


def control_row(then: str, mode: str) -> Callable[[World, Process], list[Next]]:
    """Change the control row, if it still shows the operator's generation."""

    def change(world: World, process: Process) -> list[Next]:
        if world.generation != process.generation and guard("control row: this generation only"):
            return [Next("CONTROL ROW: another generation", world, finish(process, "end"))]
        if mode == "H" and not guard("hold between mirror and final"):
            return [Next("NO HOLD", world, process._replace(at=then))]
        return [Next("CONTROL ROW: " + mode, world._replace(mode=mode), process._replace(at=then))]

    return change


def generation_key(then: str, mode: str) -> Callable[[World, Process], list[Next]]:
    """Change the generation key under the pin, and have it on disk before the next step."""

    def change(world: World, process: Process) -> list[Next]:
        if process.at == "hold key" and not guard("hold between mirror and final"):
            return [Next("NO HOLD", world, process._replace(at=then))]
        if restarted(world, process.generation) and guard("generation key: written under the pin"):
            return [Next("WRONG_SERVER", world, finish(process, "end"))]
        after = key_set(world, process.generation, mode)
        if len(world.servers) > 1 and guard("generation key: on disk before the next step"):
            after = copied(after)  # and with it whatever was written before it
        return [Next("GENERATION KEY: " + mode, after, process._replace(at=then))]

    return change


def begin(world: World, process: Process) -> list[Next]:
    """Begin only where sessions are mirrored."""
    if key_now(world) != "M":
        return []
    return control_row("hold key", "H")(world, process._replace(generation=world.generation))


def drain_legacy(world: World, process: Process) -> list[Next]:
    """Wait until L has no live row that it owns."""
    row = world.row
    over = row is None or row.deleted or (not redis_owned(world, row) and not fresh(world, row.data))
    if over or not guard("final: only after the drain"):
        return [Next("DRAIN: nothing", world, process._replace(at="final"))]
    if world.generation != process.generation:
        return [Next("DRAIN: another generation", world, finish(process, "end"))]
    if row is not None and redis_owned(world, row):
        return [Next("DRAIN: R owns it", world, process._replace(at="drain R", row=row))]
    return []


def drain_redis(world: World, process: Process) -> list[Next]:
    """A read with home redis: R must have what L says it owns."""
    row = process.row
    assert row is not None
    record = record_in(world, process.generation, home_of(world, process.generation).server)
    there = record and record.state in "AT" and record.version >= row.version
    if there or not guard("drain: asks R as well"):
        return [Next("DRAIN: R has it", world, process._replace(at="final", row=None))]
    if expired_in_both(world, row, record):
        return [Next("DRAIN: R has nothing, both are expired", world, process._replace(at="drain again"))]
    if world.row != row:
        return [Next("DRAIN: look again", world, process._replace(at="drain L", row=None))]
    return []


def drain_again(world: World, process: Process) -> list[Next]:
    """A single look at an expired row is not enough."""
    then = "final" if world.row == process.row else "drain L"
    return [Next("DRAIN: L.get", world, process._replace(at=then, row=None))]


def come_back(world: World, process: Process) -> list[Next]:
    """The control row names the server as it runs now, whatever happened in final mode; then the key says hold."""
    home = home_of(world, process.generation)
    home = home._replace(run=world.servers[home.server].run)
    pinned = world._replace(homes=changed(world.homes, process.generation - 1, home))
    return generation_key("backfill", "H")(pinned, process)


def backfill_read(world: World, process: Process) -> list[Next]:
    """Scan the prefix: what R has of the session."""
    record = record_in(world, process.generation, home_of(world, process.generation).server)
    if record is None or record.state not in "AT" or not guard("back from final: backfill"):
        return [Next("BACKFILL: nothing", world, process._replace(at="mirror key"))]
    label = f"BACKFILL: read {record.state} v{record.version}"
    return [Next(label, world, process._replace(at="backfill apply", record=record))]


def backfill_apply(world: World, process: Process) -> list[Next]:
    """L gets what the scan has found."""
    assert process.record is not None
    after, _ = apply(world, process.generation, process.record)
    return [Next("BACKFILL: L.apply", after, process._replace(at="mirror key", record=None))]


COME_BACK = "come back"
STEPS = {
    "hold key": generation_key("drain L", "H"),
    "drain L": drain_legacy,
    "drain R": drain_redis,
    "drain again": drain_again,
    "final": control_row("final key", "F"),
    "final key": generation_key(COME_BACK, "F"),
    COME_BACK: come_back,
    "backfill": backfill_read,
    "backfill apply": backfill_apply,
    "mirror key": generation_key("mirror", "M"),
    "mirror": control_row("end", "M"),
}
"""After `begin`, which is the step that writes hold into the control row."""
