"""Every step a process can take next, by the name of the place where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.protocol import bumps, cleanup, faults, operations, retiring
from tests.protocol.progress import Next, finish
from tests.protocol.reads import read_legacy, read_redis
from tests.protocol.redis_steps import restarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.protocol.records import Process, World

    Step = Callable[[World, Process], list[Next]]

ENVIRONMENT: dict[str, Step] = {
    "bump": bumps.bump_close,
    "fence": bumps.bump_close,
    "cancel": bumps.cancel,
    "flush": faults.flush,
    "rewind": faults.rewind,
    "sync": faults.sync,
    "promote": faults.promote,
    "tick": faults.tick,
}
"""Kinds that are no operation on the session, and their first step."""

STARTS: dict[str, Step] = {
    "create": operations.create,
    "cleanup": cleanup.cleanup,
    "finalize": retiring.begin,
    "move>": lambda world, process: read_legacy(world, process, home_redis=True),
    "move<": lambda world, process: read_legacy(world, process, home_redis=False),
    **ENVIRONMENT,
}
"""First steps by kind. All other kinds find the session first, whatever this host's flag says now."""

IN_R = ("put", "mark", "r_cas", "r_kill", "x_look", "drain R")
"""Steps in R after the read: they check the pin, not the lease."""

STEPS: dict[str, Step] = {
    "redis": read_redis,
    "look": lambda world, process: read_legacy(world, process, home_redis=True),
    "claim": operations.step_claim,
    "put": operations.step_put,
    "recheck": operations.step_recheck,
    "mark": operations.step_mark,
    "r_cas": operations.step_redis_cas,
    "r_kill": operations.step_kill,
    "l_cas": operations.step_legacy_cas,
    "apply": operations.step_apply,
    "included": operations.step_included,
    "x_look": cleanup.step_look,
    "x_delete": cleanup.step_purge,
    "wait": bumps.bump_wait,
    "key": bumps.bump_key,
    "open": bumps.bump_open,
    **retiring.STEPS,
}


def start(world: World, process: Process) -> list[Next]:
    """The first step of a process, or of another round of it."""
    first = STARTS.get(process.kind)
    if first is not None:
        return first(world, process)
    return read_redis(world, process) + read_legacy(world, process, home_redis=False)


def step(world: World, process: Process) -> list[Next]:
    """All that the process can do next in this world."""
    if process.at == "start":
        return start(world, process)
    if process.at in IN_R and restarted(world, process.generation):
        return [Next("WRONG_SERVER", world, finish(process, "unknown"))]
    return STEPS[process.at](world, process)
