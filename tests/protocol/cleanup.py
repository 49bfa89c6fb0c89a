"""Cleanup of an expired row in L (section 7 of the protocol)."""

from __future__ import annotations

from tests.protocol.control import places
from tests.protocol.guards import guard
from tests.protocol.progress import Next, finish
from tests.protocol.records import Process, World, fresh, redis_owned
from tests.protocol.redis_steps import record_in


def cleanup(world: World, process: Process) -> list[Next]:
    """Look for an expired row."""
    row = world.row
    if world.now == 0:
        return []
    if row is None or fresh(world, row.data):
        return [Next("L.get: nothing to clean up", world, finish(process, "end"))]
    if redis_owned(world, row) and guard("cleanup: asks R"):
        asking = process._replace(at="x_look", generation=row.generation, row=row)
        return [
            Next("L.get: expired, R owns it", world, asking._replace(server=server))
            for server in places(world, row.generation)
        ]
    return [Next("L.get: expired", world, process._replace(at="x_delete", row=row))]


def step_look(world: World, process: Process) -> list[Next]:
    """Of an expired row that R owns: ask R."""
    record = record_in(world, process.generation, process.server)
    assert process.row is not None
    if record is not None and record.version > process.row.version and fresh(world, record.data):
        after = process._replace(at="apply", row=None, record=record)
        return [Next(f"R.get: {record.state} v{record.version}", world, after)]
    return [Next("R.get: expired", world, process._replace(at="x_delete"))]


def step_purge(world: World, process: Process) -> list[Next]:
    """Remove the row, if it is still the one that was seen."""
    if world.row == process.row or not guard("cleanup: version"):
        return [Next("L.purge", world._replace(row=None), finish(process, "end"))]
    return [Next("L.purge refused", world, finish(process, "end"))]
