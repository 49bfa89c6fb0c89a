"""How a process goes on: the outcome of one step, and the ways in which an operation ends or begins again."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.guards import guard
from tests.protocol.records import Process, World

FINISHED = ("ok", "none", "unknown", "end")
"""Acknowledged; no such session; not acknowledged; other."""


class Silent:
    """The client is told nothing about the session's value."""


SILENT = Silent()
Answer = str | None | Silent


class Next(NamedTuple):
    """One step that can be taken, and what it leaves."""

    label: str
    world: World
    process: Process
    answer: Answer = SILENT
    """What the client is told about the session's value."""


def finish(process: Process, how: str) -> Process:
    """The operation has ended, as one of FINISHED."""
    return Process(process.kind, how)


def again(process: Process, at: str = "start") -> Process:
    """Another round: nothing is remembered but the moves."""
    return Process(process.kind, at, process.moves)


def nothing_there(world: World, process: Process, label: str) -> Next:
    """The client is told that there is no session."""
    return Next(label + ": none", world, finish(process, "none")._replace(none=process.none), None)


def may_move(process: Process) -> bool:
    """Whether the operation may begin a move of its own will."""
    return process.moves < 1 or not guard("one voluntary move per operation")
