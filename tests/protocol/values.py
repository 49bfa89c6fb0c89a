"""The abstract register: what the session is worth in a state, whichever store has it."""

from __future__ import annotations

from tests.protocol.control import key_now
from tests.protocol.records import Record, Row, World, fresh
from tests.protocol.redis_steps import home_of, record_in


def record_now(world: World, mode: str) -> Record | None:
    """What the current generation's server has of the session; `mode`: its generation key as it is now."""
    return record_in(world, world.generation, home_of(world, world.generation).server) if mode else None


def value(world: World) -> str | None:
    """What a read must answer in this state. None: there is no such session."""
    row, mode = world.row, key_now(world)
    record = record_now(world, mode)
    worth: str | None
    if mode == "F" or (mode == "H" and row is None):
        worth = record.data if record is not None and record.state == "A" else None
    elif row is None or row.deleted:
        worth = None
    elif not mode or row.owner == "L" or row.generation != world.generation:
        worth = row.data
    else:
        worth = _redis_owned_worth(row, record)
    return worth if worth is not None and fresh(world, worth) else None


def _redis_owned_worth(row: Row, record: Record | None) -> str | None:
    if record is None or record.version < row.version:
        return row.data if row.version > 1 else None  # version 1: a create on its way to R
    return {"A": record.data, "M": record.data, "V": row.data, "T": None}[record.state]


def being_born(world: World) -> bool:
    """The session is a create on its way to R."""
    return world.row is not None and world.row.version == 1 and world.row.owner == "R"


def finished_later(world: World) -> bool:
    """Whoever touches the session next finishes its birth; in final mode nobody looks at L."""
    return being_born(world) and key_now(world) != "F"


def deleted_already(world: World) -> bool:
    """The session was created and is deleted already."""
    record = record_now(world, key_now(world))
    return (world.row is not None and world.row.deleted) or (record is not None and record.state == "T")
