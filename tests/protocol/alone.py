"""What one operation comes to when everybody else stands still, as if all had crashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol.bumps import opened, prepared
from tests.protocol.control import key_now, leased
from tests.protocol.progress import FINISHED, SILENT, Answer, Silent
from tests.protocol.reads import read_legacy, read_redis
from tests.protocol.records import Process, World, redis_owned
from tests.protocol.redis_steps import home_of
from tests.protocol.retiring import COME_BACK, key_set
from tests.protocol.steps import step
from tests.protocol.values import being_born, value

if TYPE_CHECKING:
    from tests.protocol.progress import Next

STUCK = "STUCK"
ROUNDS = 20


def read_alone(world: World, *, flag: bool) -> tuple[str | None, World]:
    """One read runs alone with its flag on or off: what it answers, and what it leaves."""
    process = Process("read")
    for _ in range(ROUNDS):
        options = _options(world, process, flag=flag)
        if not options:
            break
        following = options[-1]
        world, process = following.world, following.process
        if process.at in FINISHED:
            return _told(following.answer), world
    return STUCK, world


def _options(world: World, process: Process, *, flag: bool) -> list[Next]:
    if process.at != "start":
        return step(world, process)
    found = read_redis(world, process) if flag and key_now(world) else []
    return found or read_legacy(world, process, home_redis=False)


def _told(answer: Answer) -> str | None:
    return STUCK if answer is SILENT or isinstance(answer, Silent) else answer


def repaired(world: World) -> World:
    """What the operator does so that sessions move again: a new generation, or no closing, no hold, not final."""
    if key_now(world) == "":
        world = opened(*prepared(world, 0, world.generation))
    world = world._replace(closing=0, leases=(0,) * world.generation)
    if world.mode != "F":
        return key_set(world, world.generation, "M")._replace(mode="M")
    process = Process("finalize", COME_BACK, generation=world.generation)
    while process.at != "end":
        following = step(world, process)[0]
        world, process = following.world, following.process
    return world


def _waits_for_bump(world: World) -> bool:
    """No host has a lease any more: what is in R answers 503 until the bump opens or is cancelled."""
    if leased(world, world.generation) or not key_now(world):
        return False
    return world.mode != "M" or (world.row is not None and redis_owned(world, world.row))


def check_flags_agree(world: World) -> str | None:
    """A read answers the same value with the flag on and with the flag off (d)."""
    if not key_now(world) and home_of(world, world.generation).server >= 0:
        return None
    worth = value(world)
    for flag in (True, False):
        got, _ = read_alone(world, flag=flag)
        born = being_born(world) and got == ""
        if got != worth and not born and not (got == STUCK and _waits_for_bump(world)):
            return f"a read with the flag {'on' if flag else 'off'} answers {got!r}, the session is {worth!r}"
    return None


def check_moves(world: World) -> str | None:
    """The session can move both ways (e)."""
    worth, fixed = value(world), repaired(world)
    worth_then = value(fixed)
    if worth_then != worth and not being_born(world):
        return f"repair changes {worth!r} into {worth_then!r}"
    for flag in (True, False):
        got, end = read_alone(fixed, flag=flag)
        home = "R" if flag else "L"
        if got != worth_then and not (being_born(fixed) and got == ""):
            return f"moving to {home} changes {worth_then!r} into {got!r}"
        if got is not None and end.row is not None and redis_owned(end, end.row) != flag:
            return f"the session does not move to {home}"
    return None
