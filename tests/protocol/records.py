"""What the stores hold and what a process remembers: the values that make up a state of the search."""

from __future__ import annotations

from typing import NamedTuple

from tests.protocol.guards import guard


class Row(NamedTuple):
    """The session's row in L. Data is the string of the writes it contains; `t` extends the expiry."""

    version: int
    owner: str
    """L or R."""
    generation: int
    """The generation of Redis in which this version was made."""
    data: str
    deleted: bool = False
    """The row stays until the session would have expired."""


class Record(NamedTuple):
    """The session's key in R. The generation is part of the key's name."""

    version: int
    state: str
    """A active, M moved back, V moved back and never filled (no data), T tombstone."""
    data: str


class Server(NamedTuple):
    """One Redis server."""

    modes: tuple[str, ...]
    """Per prefix, the generation key: M mirror, H hold, F final, empty: absent."""
    records: tuple[Record | None, ...]
    """Per prefix, the session's key."""
    run: int = 0
    """Its replication id: a new one with every start."""


class Home(NamedTuple):
    """Where a generation lives. The server and its run are the pin."""

    server: int
    """-1: no Redis (fenced)."""
    run: int = 0
    prefix: int = 0
    """New for every bump, also for one that fails."""


class World(NamedTuple):
    """Everything outside the processes. Down to `leases`: the control row."""

    row: Row | None
    servers: tuple[Server, ...]
    generation: int = 1
    homes: tuple[Home, ...] = (Home(0),)
    """Pin and prefix per generation; those of older generations are remembered."""
    mode: str = "M"
    """M mirror, H hold (L is complete in both), F final (it is not)."""
    closing: int = 0
    """The token of a bump under way, 0: none, so leases are granted."""
    tokens: int = 0
    """The tokens written so far: every closing has a new one."""
    leases: tuple[int, ...] = (0,)
    """Per generation: the first token after the last lease granted on it, 0: all are over."""
    promoted: bool = False
    """Server 1, a possibly stale replica, has been promoted."""
    now: int = 0
    """1: whatever was never touched is expired; 2: and its keys are gone from R."""


class Process(NamedTuple):
    """One operation under way. From `generation` on: what it remembers."""

    kind: str
    at: str = "start"
    """The name of its next step, or how it ended."""
    moves: int = 0
    """Moves that it has begun of its own will."""
    generation: int = 0
    server: int = 0
    mode: str = ""
    row: Row | None = None
    record: Record | None = None
    token: int = 0
    """A bump remembers its closing, and the home that it has prepared."""
    home: Home | None = None
    none: bool = False
    """For the property only: there was no session when R was read."""

    @property
    def tag(self) -> str:
        """What the operation writes: the letter behind the colon of its kind."""
        return self.kind.partition(":")[2]


def fresh(world: World, data: str) -> bool:
    """Whether a session with this data has not expired."""
    return world.now == 0 or "t" in data


def alive(world: World, row: Row) -> bool:
    """Whether the row is of a session that neither was deleted nor has expired."""
    return not row.deleted and fresh(world, row.data)


def redis_owned(world: World, row: Row) -> bool:
    """Whether R owns the row. One of an older generation is owned by L: this is what makes a bump O(1)."""
    return row.owner == "R" and (row.generation == world.generation or not guard("owner: of this generation"))


def expired_in_both(world: World, row: Row, record: Record | None) -> bool:
    """Whether the session has expired by its row and by what R has of it."""
    return not fresh(world, row.data) and (record is None or not fresh(world, record.data))
