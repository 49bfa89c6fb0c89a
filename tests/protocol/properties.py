"""The properties of every step, of every world, and of what clients have been told."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.protocol.alone import check_flags_agree, check_moves
from tests.protocol.control import key_now
from tests.protocol.progress import SILENT
from tests.protocol.records import Process, World, alive, fresh
from tests.protocol.steps import ENVIRONMENT
from tests.protocol.values import being_born, deleted_already, finished_later, record_now, value

if TYPE_CHECKING:
    from tests.protocol.progress import Next

MOST_MOVES = 3


def check_step(world: World, process: Process, following: Next, *, faults: bool) -> str | None:
    """Every step leaves the register alone or is the one effect of its operation; answers are its value (a)."""
    before, after = value(world), value(following.world)
    answer = following.answer
    told_none_before = answer is None and process.none
    if answer is not SILENT and answer not in (before, after) and not told_none_before:
        return f"answers {answer!r}, the session is {before!r}"
    if process.kind == "create" and following.process.at == "ok" and after is None:
        exists = finished_later(following.world) or deleted_already(following.world)
        if not exists:
            return "a session is acknowledged that does not exist"
    if following.process.moves > MOST_MOVES:
        return "one operation has moved the session four times"
    if before == after or process.kind in ENVIRONMENT:
        return None
    return _check_effect(world, process, before, after, faults=faults)


def _check_effect(world: World, process: Process, before: str | None, after: str | None, *, faults: bool) -> str | None:
    if before is None:
        born = after == "" and (being_born(world) or process.kind == "create")
        touched_late = faults and world.now and world.row and not world.row.deleted
        return None if born or touched_late else f"{after!r} exists again"
    if after is None:
        ended = process.kind == "delete" or (process.record is not None and process.record.state == "T")
        return None if ended else f"{before!r} has disappeared"
    written = process.tag and after == before + process.tag and process.at in {"r_cas", "l_cas"}
    written_late = faults and after.startswith(before)  # by an operation that was never acknowledged
    return None if written or written_late else f"the session was {before!r} and is {after!r}"


def check_world(world: World) -> str | None:
    """One owner (c), flags that agree (d), sessions that can move (e)."""
    return _check_one_owner(world) or check_flags_agree(world) or check_moves(world)


def _check_one_owner(world: World) -> str | None:
    row, mode = world.row, key_now(world)
    if mode == "F" and row is not None and row.owner == "L" and alive(world, row):
        return "L would accept a write in final mode"
    if mode not in {"M", "H"} or world.mode == "F":
        return None
    record = record_now(world, mode)
    if record is None or record.state != "A" or not fresh(world, record.data):
        return None
    if row is None or row.deleted or row.owner == "L":
        owned = False
    else:
        owned = row.generation == world.generation and row.version <= record.version
    return None if owned else "R would accept a write, but L does not say that R owns the session"


class Told(NamedTuple):
    """What clients have been told so far: the writes acknowledged, an end or an absence, an unknown outcome."""

    tags: str
    gone: bool
    unknown: bool


def check_acknowledged(world: World, told: Told, *, faults: bool) -> str | None:
    """What clients have been told so far still holds (a, b, f)."""
    worth = value(world)
    if told.gone:
        return None if worth is None else f"deleted or reported absent, and yet {worth!r}"
    if told.unknown and not faults:
        return "an operation ends in the unknown without a fault"
    if worth is None:
        return None  # check_step knows who deleted it
    if any(tag not in worth for tag in told.tags):
        return f"acknowledged {told.tags!r}, the session is {worth!r}"
    if world.mode != "F" and world.row is not None and any(tag not in world.row.data for tag in told.tags):
        return f"acknowledged {told.tags!r}, L alone has {world.row.data!r}"
    return None
