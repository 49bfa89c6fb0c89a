"""The steps of the operations and of the movers after they have found the session, one function each."""

from __future__ import annotations

from tests.protocol.control import places
from tests.protocol.guards import guard
from tests.protocol.legacy_steps import apply, claim, legacy_cas
from tests.protocol.progress import Next, again, finish, nothing_there
from tests.protocol.records import Process, Record, Row, World, expired_in_both
from tests.protocol.redis_steps import home_of, kill, mark, mode_in, put, record_in, redis_cas, with_record


def step_claim(world: World, process: Process) -> list[Next]:
    """First step of a move to R."""
    after, row = claim(world, process.generation)
    if row is None:
        return [Next("L.claim refused", world, again(process))]
    return [Next(f"L.claim v{row.version}", after, process._replace(at="put", row=row))]


def step_put(world: World, process: Process) -> list[Next]:
    """Second step of a move to R and of a create."""
    generation, server, row = process.generation, process.server, _row(process)
    if mode_in(world, generation, server) == "" and guard("R.put: generation key"):
        return [Next("R.put: Redis has lost its data", world, finish(process, "unknown"))]
    after = put(world, generation, server, row)
    record = record_in(after, generation, server)
    label = f"R{server}.put g{generation} v{row.version}" + (" refused" if after == world else "")
    if process.kind == "move>":
        return [Next(label, after, finish(process, "end"))]
    if process.kind == "create":
        return [Next(label, after, finish(process, "ok" if record else "unknown"))]
    if expired_in_both(world, row, record):
        return [Next(label, after, process._replace(at="recheck"))]
    return [Next(label, after, again(process))]


def step_recheck(world: World, process: Process) -> list[Next]:
    """The row R was asked about is still the row: then it is expired for certain."""
    if world.row is None or world.row == process.row or not guard("an expired row that R owns: looked at twice"):
        return [nothing_there(world, process, "L.get, the same")]
    return [Next("L.get, changed", world, again(process))]


def step_mark(world: World, process: Process) -> list[Next]:
    """First step of a move back."""
    generation, server = process.generation, process.server
    after, record = mark(world, generation, server, _row(process))
    if record is None:
        if mode_in(world, generation, server) == "":
            return [Next("R.mark: Redis has lost its data", world, finish(process, "unknown"))]
        return [Next("R.mark refused", world, finish(process, "end") if process.kind == "move<" else again(process))]
    label = f"R{server}.mark g{generation} {record.state} v{record.version}"
    return [Next(label, after, process._replace(at="apply", row=None, record=record))]


def step_redis_cas(world: World, process: Process) -> list[Next]:
    """A write of a session that R owns."""
    generation, server, seen = process.generation, process.server, _record(process)
    after, record = redis_cas(world, generation, server, seen, seen.data + process.tag)
    if record is None:
        return [Next("R.cas refused", world, again(process))]
    mode = mode_in(world, generation, server) if guard("R.cas: answers the mode") else process.mode
    done = mode == "F" or not guard("mirror before the acknowledgement")
    label = f"R{server}.cas g{generation} v{record.version} {record.data!r}"
    return [Next(label, after, finish(process, "ok") if done else process._replace(at="apply", record=record, mode=""))]


def step_kill(world: World, process: Process) -> list[Next]:
    """A delete of a session that R owns."""
    generation, server = process.generation, process.server
    after, tombstone = kill(world, generation, server)
    if tombstone is None:
        return [Next("R.kill refused", world, again(process))]
    done = mode_in(world, generation, server) == "F" or not guard("delete: in L before the acknowledgement")
    label = f"R{server}.kill g{generation} v{tombstone.version}"
    return [Next(label, after, finish(process, "ok") if done else process._replace(at="apply", record=tombstone))]


def step_legacy_cas(world: World, process: Process) -> list[Next]:
    """A write or a delete of a session that L owns."""
    row, deletes = _row(process), process.kind == "delete"
    data = row.data + process.tag
    after, done = legacy_cas(world, row, process.generation, data, deleted=deletes)
    if not done:
        return [Next("L.cas refused", world, again(process))]
    return [Next("L.delete" if deletes else f"L.cas {data!r}", after, finish(process, "ok"))]


def step_apply(world: World, process: Process) -> list[Next]:
    """The mirror of a write, the second half of a move back, the second half of a delete."""
    record = _record(process)
    after, done = apply(world, process.generation, record)
    label = f"L.apply {record.state} v{record.version} g{process.generation}" + ("" if done else " refused")
    if record.state == "A":
        return _mirrored(world, process, record, Next(label, after, _acknowledged(process)), done=done)
    if record.state == "T":
        return [_tombstone_in_legacy(after, process, label)]
    over = process.kind in {"move<", "cleanup"}
    return [Next(label, after, finish(process, "end") if over else again(process))]


def _acknowledged(process: Process) -> Process:
    return finish(process, "end" if process.kind == "cleanup" else "ok")


def _mirrored(world: World, process: Process, record: Record, own: Next, *, done: bool) -> list[Next]:
    """A write's own APPLY; or, in a batch, that of a higher version which stands for it."""
    if not done:
        own = own._replace(process=process._replace(at="included"))
    row = world.row
    if row is None or row.generation != process.generation:
        return [own]
    if row.version < record.version and guard("batch: the row has this version or a newer one"):
        return [own]
    return [own, Next("L.apply of a newer version stands for it", world, _acknowledged(process))]


def _tombstone_in_legacy(after: World, process: Process, label: str) -> Next:
    if after.row is not None and not after.row.deleted:  # L belongs to a newer generation
        return Next(label, after, again(process))
    if process.kind in {"delete", "cleanup"}:
        return Next(label, after, finish(process, "ok" if process.kind == "delete" else "end"))
    return nothing_there(after, process, label)


def step_included(world: World, process: Process) -> list[Next]:
    """L refused the write's record: is it there already, by another way?"""
    if world.row is None:
        return [nothing_there(world, process, "L.get")]
    same = world.row.generation == process.generation or not guard("included: same generation")
    label = f"L.get g{world.row.generation}: " + ("included" if same else "not known")
    return [Next(label, world, _acknowledged(process) if same else finish(process, "unknown"))]


def create(world: World, process: Process) -> list[Next]:
    """Session ids are random and never used again, so a scenario creates its session at most once.

    The host's copy of the control row may be of any generation so far; after a refusal it is the process's.
    """
    following = []
    if world.mode == "M" or not guard("L.insert: owner L in mirror mode only"):
        born = world._replace(row=Row(1, "L", world.generation, ""))
        following.append(Next("L.insert owner L", born, finish(process, "ok")))
    known = [process.generation] if process.generation else range(1, world.generation + 1)
    for generation in known:
        server = home_of(world, generation).server
        if server >= 0:
            following += _create_in_redis(world, process, generation, server)
    return following


def _create_in_redis(world: World, process: Process, generation: int, server: int) -> list[Next]:
    if generation == world.generation or not guard("L.insert: owner R in the generation that the host knows"):
        row = Row(1, "R", world.generation, "")
        after = process._replace(at="put", generation=generation, server=server, row=row)
        following = [Next(f"L.insert owner R g{world.generation}", world._replace(row=row), after)]
    else:
        following = [Next("L.insert owner R refused", world, process._replace(generation=world.generation))]
    final = mode_in(world, generation, server) == "F"
    if server in places(world, generation) and (final or not guard("R.create: final mode only")):
        created = with_record(world, generation, server, Record(1, "A", ""))
        following.append(Next("R.create", created, finish(process, "ok")))
    return following


def _row(process: Process) -> Row:
    """The row that the process remembers at a step that is never reached without one."""
    assert process.row is not None
    return process.row


def _record(process: Process) -> Record:
    """The record that the process remembers at a step that is never reached without one."""
    assert process.record is not None
    return process.record
