"""The atomic steps in L (section 4 of the protocol), one SQL statement each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.guards import guard
from tests.protocol.records import Record, Row, alive

if TYPE_CHECKING:
    from tests.protocol.records import World


def claim(world: World, generation: int) -> tuple[World, Row | None]:
    """L gives the session away: owner R in this generation, one version up. Answers the row as it is now."""
    row = world.row
    if row is None or row.deleted:
        return world, None
    if row.owner == "R" and row.generation == generation and guard("L.claim: only what L owns"):
        return world, None
    if row.generation > generation and guard("L.claim: not what a newer generation has written"):
        return world, None
    new = Row(row.version + (1 if guard("L.claim: version + 1") else 0), "R", generation, row.data)
    return world._replace(row=new), new


def legacy_cas(world: World, seen: Row, generation: int, data: str, *, deleted: bool = False) -> tuple[World, bool]:
    """A write or a delete of a session that L owns."""
    row = world.row
    if row is None or (row != seen and (guard("L.cas: version") or not alive(world, row))):
        return world, False
    if not alive(world, seen) and guard("L.cas: not expired"):
        return world, False
    made_in = generation if guard("L.cas: sets the generation") else row.generation
    new = Row(row.version + 1, "L", made_in, data, deleted)
    if deleted and not guard("L: deleted rows stay"):
        return world._replace(row=None), True
    return world._replace(row=new), True


def apply(world: World, generation: int, record: Record) -> tuple[World, bool]:
    """Copy a newer record of R into L: the mirror of a write, the end of a move back or of a delete."""
    row = world.row
    if row is None:
        incomplete = (world.mode, world.generation) == ("F", generation)
        if record.state not in "AT" or (guard("L.apply: inserts only if L is incomplete") and not incomplete):
            return world, False
        row = Row(0, "R", generation, "")
    if row.generation != generation and guard("L.apply: generation"):
        return world, False
    if row.version >= record.version and guard("L.apply: version"):
        return world, False
    return world._replace(row=_with(row, generation, record)), True


def _with(row: Row, generation: int, record: Record) -> Row | None:
    if record.state == "A":
        return Row(record.version, row.owner, generation, record.data, row.deleted)
    if record.state == "T":
        return (
            Row(record.version, "L", generation, record.data, deleted=True) if guard("L: deleted rows stay") else None
        )
    taken = record.state == "M" and guard("L.apply: takes the data of the marker")
    return Row(record.version, "L", generation, record.data if taken else row.data, row.deleted)
