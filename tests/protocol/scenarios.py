"""The scenarios that are searched: where the session is to begin with, and which processes there are."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.records import Record, Row, Server, World

STARTING = {
    "in L": (Row(1, "L", 0, ""), None),
    "in R": (Row(2, "R", 1, ""), Record(2, "A", "")),
    "back": (Row(3, "L", 1, ""), Record(3, "M", "")),
    "new": (None, None),
}
"""`back`: has been in R before."""

EVERYWHERE = ("in L", "in R", "back")
WA, WB, WC, WD, TOUCH = "write:a", "write:b", "write:c", "write:d", "touch:t"


class Scenario(NamedTuple):
    """One search."""

    name: str
    world: World
    kinds: tuple[str, ...]


def scenario(where: str, *kinds: str) -> Scenario:
    """One scenario; `where` the session is to begin with."""
    row, record = STARTING[where]
    servers: tuple[Server, ...] = (Server(("M",), (record,)),)
    if "promote" in kinds:
        servers += (Server(("",), (None,)),)
    if "rewind" in kinds:
        servers *= 2
    return Scenario(f"{where}: {' '.join(kinds)}", World(row, servers), kinds)


def scenarios(*kinds: str, where: tuple[str, ...] = EVERYWHERE) -> list[Scenario]:
    """The same processes from several beginnings."""
    return [scenario(beginning, *kinds) for beginning in where]


def default_scenarios() -> list[Scenario]:
    """Searched in every run of the tests."""
    return [
        *scenarios(WA, WB, "read"),
        *scenarios(WA, WB, "move>", "move<"),
        *scenarios(WA, "delete", "move>", "move<", where=("in L",)),
        *scenarios(WA, "delete", "read", "move<"),
        *scenarios("create", WA, "delete", "move<", where=("new",)),
        # expiry: the untouched session expires, then its keys are evicted
        *scenarios(TOUCH, "read", "cleanup", "tick"),
        *scenarios(TOUCH, "move>", "move<", "tick"),
        *scenarios("delete", "move>", "cleanup", "tick"),
        # several hosts bump at once and take over from each other, an operator cancels
        *scenarios(WA, "read", "bump", "bump", "cancel", where=("in L", "in R")),
        *scenarios(WA, "delete", "bump", "bump", "cancel", where=("in R",)),
        # Redis loses everything
        *scenarios(WA, WB, "flush", "bump"),
        *scenarios(WA, "delete", "flush", "bump", where=("in L", "back")),
        *scenarios(WA, "delete", "read", "flush", "bump", where=("in R",)),
        *scenarios("delete", "read", "flush", "bump", "bump", where=("in R",)),
        # Redis starts again without its last writes
        *scenarios(WA, WB, "sync", "rewind", "bump", where=("in L", "in R")),
        *scenarios("delete", "read", "sync", "rewind", "bump", where=("in L", "in R")),
        *scenarios(WA, "sync", "rewind", "finalize", where=("in R",)),
        # a stale replica is promoted; the old primary goes on serving those who talk to it
        *scenarios(WA, WB, "sync", "promote", "bump", where=("in L", "in R")),
        *scenarios("delete", "read", "sync", "promote", "bump", where=("in L", "in R")),
        # forced rollback while Redis lives and hosts hold leases; later the same server is adopted again
        *scenarios(WA, WB, "fence", "bump", where=("in L", "in R")),
        *scenarios(WA, "delete", "fence", "bump", where=("in L", "in R")),
        *scenarios("delete", "read", "fence", "bump", "cancel", where=("in R",)),
        # a session is born in all this
        *scenarios("create", WA, "bump", "bump", "cancel", where=("new",)),
        *scenarios("create", WA, "fence", "bump", where=("new",)),
        *scenarios("create", "delete", "read", "fence", where=("new",)),
        *scenarios("create", WA, "flush", "bump", where=("new",)),
        *scenarios("create", WA, "sync", "rewind", "bump", where=("new",)),
        # a new generation and expiry
        *scenarios(TOUCH, "cleanup", "bump", "tick", where=("in L", "in R")),
        # L is retired, and comes back
        *scenarios(WA, "read", "move>", "finalize"),
        *scenarios(WA, "delete", "move>", "finalize", where=("in R",)),
        *scenarios("create", "read", "delete", "finalize", where=("new",)),
        *scenarios("create", WA, "finalize", "bump", where=("new",)),
        *scenarios(WA, "read", "finalize", "bump", "cancel", where=("in R",)),
        *scenarios(WA, "move>", "finalize", "flush", "bump", where=("in R",)),
    ]


def deep_scenarios() -> list[Scenario]:
    """Larger ones: a quarter of an hour."""
    return [
        *scenarios(WA, WB, WC, "read"),
        *scenarios(WA, WB, WC, WD, where=("in L", "in R")),
        *scenarios(WA, WB, WC, "delete", where=("in L", "in R")),
        *scenarios(WA, WB, WC, "move>", "move<"),
        *scenarios(WA, WB, "read", "move>", "move<"),
        *scenarios(WA, WB, "delete", "move>", "move<"),
        *scenarios(WA, "delete", "read", "move>", "move<"),
        *scenarios("create", WA, "delete", "move>", "move<", where=("new",)),
        *scenarios(TOUCH, WA, "read", "cleanup", "tick"),
        *scenarios(TOUCH, "delete", "read", "cleanup", "tick"),
        *scenarios(TOUCH, WA, "delete", "move<", "cleanup", "tick", where=("in R",)),
        *scenarios(WA, "read", "bump", "bump", "bump", "cancel", where=("in R",)),
        *scenarios(WA, WB, "read", "bump", "bump", "cancel", where=("in R",)),
        *scenarios(WA, "delete", "read", "bump", "bump", "cancel", where=("in R",)),
        *scenarios(WA, "move>", "move<", "bump", "bump", "cancel", where=("in R",)),
        *scenarios(WA, WB, WC, "flush", "bump", where=("in L", "in R")),
        *scenarios(WA, "delete", "read", "flush", "bump", where=("in L", "back")),
        *scenarios(WA, WB, "delete", "flush", "bump"),
        *scenarios(WA, WB, "move>", "move<", "flush", "bump", where=("in R",)),
        *scenarios(WA, WB, "flush", "bump", "flush", "bump"),
        *scenarios(WA, WB, "delete", "sync", "rewind", "bump", where=("in R",)),
        *scenarios(WA, "move>", "move<", "sync", "rewind", "bump", where=("in R",)),
        *scenarios(WA, "read", "sync", "rewind", "rewind", "bump", "bump", where=("in R",)),
        *scenarios(WA, WB, "sync", "rewind", "finalize", where=("in R",)),
        *scenarios(WA, WB, "read", "sync", "promote", "bump", where=("in L", "in R")),
        *scenarios(WA, WB, "delete", "sync", "promote", "bump", where=("in R",)),
        *scenarios(WA, "move>", "move<", "sync", "promote", "bump", where=("in R",)),
        *scenarios(WA, WB, "sync", "promote", "bump", "bump", where=("in L", "in R")),
        *scenarios(WA, WB, WC, "fence", "bump", where=("in L", "in R")),
        *scenarios(WA, WB, "delete", "fence", "bump"),
        *scenarios(WA, "delete", "read", "fence", "bump", "cancel", where=("in R",)),
        *scenarios(WA, WB, "flush", "fence", "bump"),
        *scenarios("create", WA, "read", "bump", "bump", "cancel", where=("new",)),
        *scenarios("create", WA, "delete", "fence", "bump", where=("new",)),
        *scenarios("create", WA, "flush", "fence", "bump", where=("new",)),
        *scenarios("create", WA, "delete", "sync", "promote", "bump", where=("new",)),
        *scenarios(TOUCH, "delete", "cleanup", "flush", "bump", "tick"),
        *scenarios(TOUCH, "delete", "read", "fence", "bump", "tick", where=("in R",)),
        *scenarios(WA, WB, "move>", "move<", "finalize"),
        *scenarios(WA, WB, "delete", "move>", "finalize", where=("in R",)),
        *scenarios(WA, "delete", "read", "move>", "finalize", where=("in R",)),
        *scenarios(WA, "delete", "move>", "finalize", "flush", "bump", where=("in R",)),
        *scenarios(TOUCH, "delete", "cleanup", "tick", "finalize", where=("in R",)),
        *scenarios("create", WA, "delete", "finalize", where=("new",)),
        *scenarios("create", WA, "delete", "finalize", "bump", where=("new",)),
    ]
